import { EXIT } from './failure.ts'
import type { Host } from './terminal.ts'

/** Ctrl-C reaches a program twice where npm passes on what the terminal has sent already. */
const SAME_WISH_MS = 500
const PARENT_CHECK_MS = 200

export interface StopSignals {
  /** Fulfils with the exit code that the first signal asks for. */
  readonly asked: Promise<number>
  forget(): void
}

/**
 * The first SIGTERM, SIGINT or SIGHUP asks for an orderly end; a later one ends the process at once. With
 * `watchParent` the end of the parent process asks for it too: npm does not always pass signals on.
 */
export function watchStopSignals(host: Host, { watchParent }: { watchParent: boolean }): StopSignals {
  let askedAt: number | undefined
  let resolve: (code: number) => void = () => undefined
  const asked = new Promise<number>((fulfil) => {
    resolve = fulfil
  })
  const ask = (code: number): void => {
    if (askedAt !== undefined && performance.now() - askedAt > SAME_WISH_MS)
      host.exit(code || EXIT.terminated)
    askedAt ??= performance.now()
    resolve(code)
  }
  const onInterrupt = (): void => ask(EXIT.interrupted)
  const onTerminate = (): void => ask(EXIT.ok)
  host.on('SIGINT', onInterrupt)
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) host.on(signal, onTerminate)
  const parent = host.ppid
  const timer = setInterval(() => {
    if (!watchParent || host.ppid === parent) return
    clearInterval(timer)
    ask(EXIT.ok)
  }, PARENT_CHECK_MS).unref()
  return {
    asked,
    forget() {
      clearInterval(timer)
      host.off('SIGINT', onInterrupt)
      for (const signal of ['SIGTERM', 'SIGHUP'] as const) host.off(signal, onTerminate)
    },
  }
}
