/** Credits given at once, and how much of them is gone. Amounts in micro-credits. */
export interface Grant {
  id: string
  class: 'included' | 'purchased'
  micro: number
  usedMicro: number
  /** Taken back after the end. */
  expiredMicro: number
  /** Milliseconds since the epoch; `null` is never. */
  expiresAt: number | null
}

export const restOf = ({ micro, usedMicro, expiredMicro }: Grant): number => micro - usedMicro - expiredMicro

/**
 * The order in which grants are used up: included before purchased, then those that end sooner, those without an end
 * last, then the older one.
 */
export function compareGrants(a: Grant, b: Grant): number {
  if (a.class !== b.class) return a.class === 'included' ? -1 : 1
  const [endA, endB] = [a.expiresAt ?? Number.POSITIVE_INFINITY, b.expiresAt ?? Number.POSITIVE_INFINITY]
  if (endA !== endB) return endA < endB ? -1 : 1
  return a.id < b.id ? -1 : 1
}

/** `grants`, in their order, after so much was spent. What no grant covers stays uncovered. */
export function useUp(grants: readonly Grant[], micro: number): Grant[] {
  let left = micro
  return grants.map((grant) => {
    const used = Math.min(left, restOf(grant))
    left -= used
    return used === 0 ? grant : { ...grant, usedMicro: grant.usedMicro + used }
  })
}

/**
 * What can be taken back of grants, in their order, that have ended by `at`. What is reserved will be spent on the
 * first of them, so it stays until it was spent or released.
 */
export function expiredRests(
  grants: readonly Grant[],
  { reservedMicro, at }: { reservedMicro: number; at: number },
): { grant: Grant; micro: number }[] {
  let reserved = reservedMicro
  return grants.flatMap((grant) => {
    const rest = restOf(grant)
    const kept = Math.min(reserved, rest)
    reserved -= kept
    const isOver = grant.expiresAt !== null && grant.expiresAt <= at
    return isOver && rest > kept ? [{ grant, micro: rest - kept }] : []
  })
}
