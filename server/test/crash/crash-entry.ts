/**
 * A gateway that dies or stands still at a race point: `crash-entry.ts '{"point":"commit.after","count":3}'` kills
 * itself with SIGKILL when it reaches the point for the third time. Says in one line of JSON when it is ready and when
 * a run is held; takes one instruction a line; stops in order when its input ends. Settings come from the environment,
 * as in production.
 */
import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { startApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'

export interface CrashPlan {
  point?: string
  count?: number
}

/** What the process is told while it works. */
export type Instruction =
  /** Replaces the plan it was started with. */
  | { type: 'die'; plan: CrashPlan }
  /** From now on every run that is claimed waits until it is told where it is to be held. */
  | { type: 'stage' }
  | { type: 'hold'; runId: string; point: string }
  | { type: 'release'; runId: string }

/** What the process says when it is ready; the key only at the first start on a folder. */
export interface ReadyLine {
  url: string
  liveKey: string | null
}

/** A run has come to the point at which it was to be held. */
export interface HeldLine {
  held: string
}

let plan: CrashPlan = JSON.parse(process.argv[2] ?? '{}')
let left = plan.count ?? 1
let isStaging = false
/** Where each run is to be held; one that waits to be told stands in `waiting`. */
const holds = new Map<string, string>()
const waiting = new Map<string, () => void>()

const say = (line: ReadyLine | HeldLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

async function pause(name: string, runId?: string): Promise<void> {
  if (runId !== undefined) await holdAt(name, runId)
  if (name !== plan.point || --left > 0) return
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => undefined)
}

async function holdAt(name: string, runId: string): Promise<void> {
  const wait = (): Promise<void> => new Promise((resolve) => waiting.set(runId, resolve))
  if (isStaging && name === 'claim.taken' && !holds.has(runId)) await wait()
  if (holds.get(runId) !== name) return
  say({ held: runId })
  await wait()
}

function obey(instruction: Instruction): void {
  switch (instruction.type) {
    case 'die':
      plan = instruction.plan
      left = plan.count ?? 1
      return
    case 'stage':
      isStaging = true
      return
    case 'hold':
      holds.set(instruction.runId, instruction.point)
      waiting.get(instruction.runId)?.()
      return
    case 'release':
      holds.set(instruction.runId, '')
      waiting.get(instruction.runId)?.()
  }
}

const config = readConfig(process.env)
const app = await startApp(config, {
  log: pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true })),
  pause,
  random: Math.random,
  lifetime: 'adoptable',
})
say({ url: app.url, liveKey: app.firstSecrets?.liveKey.reveal() ?? null })
createInterface({ input: process.stdin })
  .on('line', (line) => obey(JSON.parse(line)))
  .once('close', () => {
    void Promise.resolve(app[Symbol.asyncDispose]()).finally(() => process.exit())
  })
