// What can be said of the sources without running the product: types, lint, format, and the rules of the house.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const AT_ONCE = 2

/** The longest first. */
const CHECKS = [
  ['types', 'node_modules/typescript/bin/tsc', '-p', '.', '--noEmit'],
  ['lint', 'node_modules/oxlint/bin/oxlint'],
  ['house', 'node_modules/vitest/vitest.mjs', 'run', 'server/test/house.test.ts'],
  ['format', 'node_modules/@biomejs/biome/bin/biome', 'check'],
]

const waiting = [...CHECKS]
const failed = []
await Promise.all(Array.from({ length: AT_ONCE }, work))
if (failed.length > 0) process.stdout.write(`failed: ${failed.join(', ')}\n`)
process.exitCode = failed.length === 0 ? 0 : 1

async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) await run(next)
}

async function run([name, ...args]) {
  const started = performance.now()
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  const code = await new Promise((resolve) => child.once('close', resolve))
  const took = `${((performance.now() - started) / 1000).toFixed(1)} s`
  process.stdout.write(`${code === 0 ? 'ok  ' : 'FAIL'} ${name.padEnd(7)} ${took}\n`)
  if (code === 0) return
  failed.push(name)
  process.stdout.write(output)
}
