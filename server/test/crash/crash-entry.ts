/**
 * A gateway that dies at a race point: `crash-entry.ts '{"point":"commit.after","count":3}'` kills itself with SIGKILL
 * when it reaches the point for the third time. Says in one line of JSON when it is ready; stops in order when its
 * input ends. Settings come from the environment, as in production.
 */
import { pino } from 'pino'
import { startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'

export interface CrashPlan {
  point?: string
  count?: number
}

/** What the process says when it is ready; the key only at the first start on a folder. */
export interface ReadyLine {
  url: string
  liveKey: string | null
}

const plan: CrashPlan = JSON.parse(process.argv[2] ?? '{}')
let left = plan.count ?? 1

async function pause(name: string): Promise<void> {
  if (name !== plan.point || --left > 0) return
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => undefined)
}

const config = readConfig(process.env)
const app = await startApp(config, {
  log: pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true })),
  pause,
  random: Math.random,
  lifetime: 'adoptable',
})
const ready: ReadyLine = { url: app.url, liveKey: app.firstSecrets?.liveKey.reveal() ?? null }
process.stdout.write(`${JSON.stringify(ready)}\n`)
process.stdin.resume().once('end', () => {
  void Promise.resolve(app[Symbol.asyncDispose]()).finally(() => process.exit())
})
