const GLOBAL_DISPATCHER = Symbol.for('undici.globalDispatcher.1')

interface DispatcherHost {
  [GLOBAL_DISPATCHER]?: { constructor: unknown }
}

/** One per connect timeout, so that all clients of a program share their connections. */
const made = new Map<number, object>()

/**
 * Fetch options that give up connecting after `timeoutMs`. The fetch of Node waits 10 s, and only a dispatcher
 * of its own making can be told otherwise; it is reached through the symbol under which Node publishes it.
 * Elsewhere, and when the program has put a dispatcher of its own there (a proxy, say), the result is empty.
 */
export function connectOptions(timeoutMs: number): object {
  const options = made.get(timeoutMs) ?? makeOptions(timeoutMs)
  made.set(timeoutMs, options)
  return options
}

function makeOptions(timeoutMs: number): object {
  // Node loads its fetch, and publishes the dispatcher, when one of its classes is first used.
  void new Headers()
  const Agent = (globalThis as DispatcherHost)[GLOBAL_DISPATCHER]?.constructor
  if (typeof Agent !== 'function' || Agent.name !== 'Agent') return {}
  return { dispatcher: Reflect.construct(Agent, [{ connect: { timeout: timeoutMs } }]) }
}
