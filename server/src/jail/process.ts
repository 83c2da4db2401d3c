/**
 * Owns one command from its spawn to the end of its last process.
 * Invariants: the result is given only when the jail's pid namespace is empty; output is read to its end and
 * kept within its cap; whatever the command does becomes a value, never a throw.
 * Leaves to others: what the jail looks like (`view.ts`), limits (`limits.ts`), who may run (`jail.ts`).
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { closeSync, constants as fsConstants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../lib/clock.ts'
import { storable } from '../lib/text.ts'
import type { JailedCommand, JailLog, JailOutcome, JailResult } from './command.ts'
import { type DiskRules, watchDisk } from './disk-watch.ts'
import type { Cage } from './limits.ts'
import { OutputTail } from './output.ts'
import { startTicks } from './process-mark.ts'

export interface Launch {
  /** The words to spawn, from the outermost wrapper to the command. */
  words: readonly string[]
  /** NUL-separated options for bwrap, sent on descriptor 4 so that no value shows in a process list. */
  bwrapOptions?: string
  /** A program for bwrap that refuses system calls, sent on descriptor 5. */
  syscallFilter?: Buffer | undefined
  /** Environment and folder of the outermost wrapper. */
  env: Record<string, string>
  cwd: string
  /** A named pipe of the slot that carries standard output and error, so that their order is kept. */
  outputPipe: string
  cage: Cage
  disk: Omit<DiskRules, 'firstProcess'>
  /** Largest file that the command may write. */
  fileBytes: number
}

export async function runProcess(launch: Launch, command: JailedCommand, log: JailLog): Promise<JailResult> {
  const startedAt = systemClock.monotonic()
  const output = new OutputTail(command.maxOutputBytes)
  const finish = (outcome: JailOutcome): JailResult => ({
    ...outcome,
    output: output.text(),
    outputBytes: output.bytes,
    truncated: output.truncated,
    durationMs: Math.round(systemClock.monotonic() - startedAt),
  })
  if (command.signal.aborted) return finish({ outcome: 'canceled', killed: false })

  const source = openOutput(launch.outputPipe, (chunk) => {
    output.push(chunk)
    command.onOutput?.(chunk)
  })
  const tooFull = new AbortController()
  let status: Status | undefined
  const rules = { ...launch.disk, firstProcess: () => status?.first()?.pid }
  const disk = await watchDisk(rules, () => tooFull.abort())
  const started = start(launch, command, source.writeEnd)
  if ('refused' in started) {
    source.close()
    await disk.end()
    return finish({ outcome: 'refused_to_start', reason: started.refused })
  }
  const { child, exited } = started
  status = readStatus(child)
  const { stopped, killed } = await untilExit({ child, launch, status, exited }, command, tooFull.signal)
  await Promise.race([status.ended, pause(1_000)])
  await untilEmpty({ child, launch, status, exited }, log)
  // Nobody is left to write. Unjailed commands may have left somebody, who is not waited for.
  await (launch.bwrapOptions === undefined ? Promise.race([source.drained, pause(500)]) : source.drained)
  source.close()
  const facts = await exited
  const full = await disk.end()
  if (full !== undefined && stopped !== 'canceled') return finish({ outcome: 'disk_limit', reason: full })
  if (stopped === 'canceled' && facts.error === undefined) return finish({ outcome: stopped, killed })
  if (stopped === 'timed_out' && facts.error === undefined) return finish({ outcome: stopped })
  return finish(explain(facts, launch, { reported: status.exitCode(), output }))
}

interface ExitFacts {
  code: number | null
  signal: NodeJS.Signals | null
  error?: Error
}

/** A process from its spawn on. */
interface Started {
  child: ChildProcess
  launch: Launch
  status: Status
  exited: Promise<ExitFacts>
}

/** Opens both ends of a slot's pipe; the write end is for the child, and closed here once it has it. */
function openOutput(path: string, onChunk: (chunk: Buffer) => void) {
  const readEnd = openSync(path, fsConstants.O_RDONLY | fsConstants.O_NONBLOCK)
  const writeEnd = openSync(path, fsConstants.O_WRONLY)
  const source = new Socket({ fd: readEnd, readable: true, writable: false })
  const drained = new Promise<void>((resolve) => source.once('close', () => resolve()))
  source.on('error', () => source.destroy())
  source.on('data', onChunk)
  return { writeEnd, drained, close: () => source.destroy() }
}

function start(launch: Launch, command: JailedCommand, writeEnd: number) {
  const [file = '', ...args] = launch.words
  const extra = launch.bwrapOptions === undefined ? 'ignore' : 'pipe'
  const stdin = command.stdin === undefined ? 'ignore' : 'pipe'
  const { cwd, env } = launch
  try {
    const stdio: StdioOptions = [stdin, writeEnd, writeEnd, extra, extra]
    if (launch.syscallFilter !== undefined) stdio.push('pipe')
    const child = spawn(file, args, { cwd, env, detached: true, stdio })
    const exited = new Promise<ExitFacts>((resolve) => {
      child.once('error', (error) => resolve({ code: null, signal: null, error }))
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
    send(child.stdin, command.stdin)
    const streams: readonly ChildProcess['stdio'][number][] = child.stdio
    send(streams[4], launch.bwrapOptions)
    send(streams[5], launch.syscallFilter)
    return { child, exited }
  } catch (error) {
    // Such as arguments longer than the kernel takes.
    return { refused: `The command could not be started: ${messageOf(error)}.` }
  } finally {
    closeSync(writeEnd)
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

type Stopped = 'timed_out' | 'canceled' | 'disk_limit'

/**
 * Waits for the end, or brings it about at the deadline, the abort or when the disk is full; tells which it was, and
 * whether anything was left to be killed.
 */
async function untilExit(
  started: Started,
  command: JailedCommand,
  tooFull: AbortSignal,
): Promise<{ stopped: Stopped | undefined; killed: boolean }> {
  const { launch, status, exited } = started
  let stopped: Stopped | undefined
  let killed = false
  const stop = (why: Stopped): void => {
    stopped ??= why
    // The kill waits for bwrap to have named its first process: before that, killing bwrap could orphan it.
    const named = launch.bwrapOptions === undefined ? undefined : status.named
    void Promise.race([named, exited, pause(2_000)]).then(() => {
      killed = kill(started) || killed
    })
  }
  const onAbort = (): void => stop('canceled')
  const forget = systemClock.after(command.timeoutMs, () => stop('timed_out'))
  command.signal.addEventListener('abort', onAbort, { once: true })
  tooFull.addEventListener('abort', () => stop('disk_limit'), { once: true })
  if (command.signal.aborted) onAbort()
  if (tooFull.aborted) stop('disk_limit')
  await exited
  forget()
  command.signal.removeEventListener('abort', onAbort)
  return { stopped, killed }
}

/** Whether there was anything to kill. */
function kill({ child, launch, status }: Started): boolean {
  // A jail dies with its first process; an unjailed command is killed with its process group.
  const first = status.first()
  const hadFirst = first !== undefined && isAlive(first) && signalProcess(first.pid)
  const isRunning = child.exitCode === null && child.signalCode === null
  const hadGroup = child.pid !== undefined && isRunning && signalProcess(-child.pid)
  return launch.cage.sweep() > 0 || hadFirst || hadGroup
}

/** Whether there was such a process. */
function signalProcess(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
}

/** A pid namespace is empty when its first process is gone: the kernel reaps that one last. */
async function untilEmpty({ child, launch, status }: Started, log: JailLog): Promise<void> {
  const since = systemClock.monotonic()
  const first = status.first()
  let warned = false
  if (launch.bwrapOptions === undefined && child.pid !== undefined) signalProcess(-child.pid)
  for (
    let waitMs = 1;
    (first && isAlive(first)) || launch.cage.sweep() > 0;
    waitMs = Math.min(waitMs * 2, 50)
  ) {
    if (!warned && systemClock.monotonic() - since > 5_000) {
      warned = true
      log.warn({ pid: first?.pid }, 'a jail does not end: one of its processes cannot be killed')
    }
    await pause(waitMs)
  }
}

/** A process by pid and start time, so that a later one with the same pid is not taken for it. */
interface KnownProcess {
  pid: number
  startedAt: number | undefined
}

const isAlive = ({ pid, startedAt }: KnownProcess): boolean =>
  startedAt !== undefined && startTicks(pid) === startedAt

/** Writes and closes; a reader that went away is no error of ours. */
function send(stream: ChildProcess['stdio'][number] | undefined, content: string | Buffer | undefined): void {
  if (content === undefined || !stream || !('end' in stream)) return
  stream.on('error', () => stream.destroy())
  stream.end(content)
}

interface Status {
  /** Resolves when bwrap has named the first process of the jail. */
  named: Promise<void>
  ended: Promise<void>
  first(): KnownProcess | undefined
  exitCode(): number | undefined
}

/** Reads what bwrap says on descriptor 3: the first process of the jail as seen from here, and how the command ended. */
function readStatus(child: ChildProcess): Status {
  const stream = child.stdio[3]
  let text = ''
  let first: KnownProcess | undefined
  const find = (name: string): number | undefined => {
    const match = new RegExp(`"${name}": *(\\d+)`).exec(text)
    return match === null ? undefined : Number(match[1])
  }
  const named = new Promise<void>((resolve) => {
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      const pid = find('child-pid')
      if (pid === undefined || first !== undefined) return
      first = { pid, startedAt: startTicks(pid) }
      resolve()
    })
  })
  const ended = new Promise<void>((resolve) => {
    if (stream) stream.once('close', resolve).once('error', resolve)
    else resolve()
  })
  return { named, ended, first: () => first, exitCode: () => find('exit-code') }
}

function explain(
  facts: ExitFacts,
  launch: Launch,
  { reported, output }: { reported: number | undefined; output: OutputTail },
): JailOutcome {
  if (facts.error !== undefined) {
    return {
      outcome: 'refused_to_start',
      reason: `The command could not be started: ${facts.error.message}.`,
    }
  }
  if (launch.bwrapOptions !== undefined && reported === undefined) {
    const said = storable(output.text()).trim().split('\n').at(-1) ?? ''
    return {
      outcome: 'refused_to_start',
      reason: `The jail could not be set up: ${said || 'it was killed'}.`,
    }
  }
  if (facts.signal !== null) return { outcome: 'signaled', signal: facts.signal }
  const exitCode = reported ?? facts.code ?? 1
  const signal = SIGNALS.get(exitCode - 128)
  if (signal === 'SIGXFSZ') {
    const limit = Math.round(launch.fileBytes / 1e6)
    return {
      outcome: 'disk_limit',
      reason: `The command was stopped at a file larger than the ${limit} MB allowed for one.`,
    }
  }
  return signal === undefined ? { outcome: 'exited', exitCode } : { outcome: 'signaled', signal }
}

const SIGNALS = new Map(Object.entries(constants.signals).map(([name, value]) => [value, name]))
