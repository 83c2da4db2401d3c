/** Closed loops: each client has one call under way and starts the next when it is answered. */

export interface Load {
  /** Of each call that was answered, ascending. */
  latenciesMs: Float64Array
  seconds: number
}

export interface LoadOptions {
  clients: number
  seconds: number
  signal: AbortSignal
}

/** Calls until the time is over; the calls under way are waited for and count. The first failure ends it. */
export async function putLoad(call: () => Promise<unknown>, options: LoadOptions): Promise<Load> {
  const { clients, seconds, signal } = options
  const latencies: number[] = []
  const startedAt = performance.now()
  let until = startedAt + seconds * 1000
  const client = async (): Promise<void> => {
    for (let at = performance.now(); at < until; ) {
      signal.throwIfAborted()
      await call()
      const end = performance.now()
      latencies.push(end - at)
      at = end
    }
  }
  const loops = Array.from({ length: clients }, () =>
    client().catch((error: unknown) => {
      until = 0
      throw error
    }),
  )
  const ended = await Promise.allSettled(loops)
  const failure = ended.find((loop) => loop.status === 'rejected')
  if (failure) throw failure.reason
  return {
    latenciesMs: Float64Array.from(latencies).sort(),
    seconds: (performance.now() - startedAt) / 1000,
  }
}

/** Loads of the same call, taken together. */
export const merged = (loads: readonly Load[]): Load => ({
  latenciesMs: Float64Array.from(loads.flatMap(({ latenciesMs }) => [...latenciesMs])).sort(),
  seconds: loads.reduce((sum, { seconds }) => sum + seconds, 0),
})

export const percentile = (ascending: ArrayLike<number>, share: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))] ?? Number.NaN

export const p50 = ({ latenciesMs }: Load): number => rounded(percentile(latenciesMs, 0.5))

export const p99 = ({ latenciesMs }: Load): number => rounded(percentile(latenciesMs, 0.99))

export const perSecond = ({ latenciesMs, seconds }: Load): number => rounded(latenciesMs.length / seconds)

/** To about three digits, which is more than a measurement is good for. */
export const rounded = (value: number): number => {
  if (!Number.isFinite(value)) return value
  const size = Math.abs(value)
  return Number(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3))
}

/**
 * Measures variants in turns, so that a slow moment of the machine meets all of them: each gets an equal part of
 * `seconds` in each of the rounds.
 */
export async function inTurns<Name extends string>(
  variants: Readonly<Record<Name, () => Promise<unknown>>>,
  { rounds = 3, ...load }: LoadOptions & { rounds?: number },
): Promise<Record<Name, Load>> {
  const names = Object.keys(variants) as Name[] // keys of a record of names
  const loads = new Map<Name, Load[]>(names.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const part = await putLoad(variants[name], { ...load, seconds: load.seconds / rounds })
      loads.get(name)?.push(part)
    }
  }
  return Object.fromEntries([...loads].map(([name, parts]) => [name, merged(parts)])) as Record<Name, Load>
}
