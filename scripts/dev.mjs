// Starts the server and starts it again whenever a source changes. Signals go on to the server, which drains.
import { spawn } from 'node:child_process'
import { watch } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const SETTLE_MS = 150

let isEnding = false
let isRestarting = false
let timer
let server = start()

function start() {
  isRestarting = false
  const child = spawn(`${ROOT}agentgate`, ['start', ...process.argv.slice(2)], { stdio: 'inherit' })
  child.once('exit', (code, signal) => {
    server = undefined
    if (isEnding) process.exit(code ?? (signal ? 1 : 0))
    if (isRestarting) server = start()
    else process.stderr.write('the server has ended; it starts again with the next change\n')
  })
  return child
}

function restart() {
  if (isEnding || isRestarting) return
  isRestarting = true
  process.stderr.write('a source has changed\n')
  if (server) server.kill('SIGTERM')
  else server = start()
}

for (const folder of ['server/src', 'sdk/typescript/src']) {
  watch(`${ROOT}${folder}`, { recursive: true }, (_event, name) => {
    if (!/\.(ts|mjs|sql)$/.test(name ?? '') || name.endsWith('.test.ts')) return
    clearTimeout(timer)
    timer = setTimeout(restart, SETTLE_MS)
  })
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(signal))
// npm does not always pass signals on: when it is gone, so are we.
const parent = process.ppid
setInterval(() => process.ppid === parent || isEnding || end('SIGTERM'), 200).unref()

function end(signal) {
  isEnding = true
  if (server) server.kill(signal)
  else process.exit(0)
}
