import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Lane, pickClaims, scopesOf } from './fairness.ts'

const UNCAPPED = new Map<string, number>()

const lane = (tenantId: string, more: Partial<Lane> = {}): Lane => ({
  organizationId: 'org_1',
  mode: 'live',
  tenantId,
  agent: 'a',
  queued: 1,
  tag: 0,
  weight: 1,
  ...more,
})

const scopeOf = (of: Lane): string => scopesOf(of)[0]?.key ?? ''

/** Lanes as storage keeps them: picks move tags, count queued runs down, and carry virtual time on. */
class Queue {
  lanes: Lane[]
  virtualTime = 0
  constructor(lanes: readonly Lane[]) {
    this.lanes = lanes.map((each) => ({ ...each }))
  }
  add(tenantId: string, queued = 1): void {
    const found = this.lanes.find((each) => each.tenantId === tenantId)
    if (found) found.queued += queued
    else this.lanes.push(lane(tenantId, { queued }))
  }
  claim(free: number, room: ReadonlyMap<string, number> = UNCAPPED): string[] {
    const waiting = this.lanes.filter(({ queued }) => queued > 0).sort((a, b) => a.tag - b.tag)
    const picks = pickClaims(waiting, room, { free, virtualTime: this.virtualTime })
    for (const { lane: picked, virtualTime } of picks) {
      picked.queued -= 1
      picked.tag = Math.max(picked.tag, virtualTime) + 1 / picked.weight
      this.virtualTime = Math.max(this.virtualTime, virtualTime)
    }
    return picks.map(({ lane: { tenantId } }) => tenantId)
  }
}

const someLanes = fc
  .uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 1, maxLength: 12 })
  .chain((names) =>
    fc.tuple(
      ...names.map((name) =>
        fc.record({
          organizationId: fc.constantFrom('org_1', 'org_2', 'org_3'),
          mode: fc.constantFrom('live', 'test'),
          tenantId: fc.constant(name),
          agent: fc.constant('a'),
          queued: fc.nat(20),
          tag: fc.double({ min: 0, max: 30, noNaN: true }),
          weight: fc.constantFrom(0.5, 1, 2, 4),
        }),
      ),
    ),
  )
const someRoom = fc
  .array(
    fc.tuple(
      fc.constantFrom('org_1', 'org_2', 'org_3'),
      fc.constantFrom('live', 'test'),
      fc.integer({ min: -3, max: 8 }),
    ),
  )
  .map((caps) => new Map(caps.map(([organization, mode, room]) => [`${organization}/${mode}`, room])))
const free = fc.nat(64)
const virtualTime = fc.double({ min: 0, max: 40, noNaN: true })

describe('picking claims', () => {
  test('never takes more than is free, is queued, or has room', () => {
    fc.assert(
      fc.property(someLanes, someRoom, free, virtualTime, (lanes, room, slots, now) => {
        const picks = pickClaims(lanes, room, { free: slots, virtualTime: now })
        expect(picks.length).toBeLessThanOrEqual(slots)
        for (const each of lanes) {
          const taken = picks.filter((pick) => pick.lane === each).length
          expect(taken).toBeLessThanOrEqual(each.queued)
        }
        for (const [scope, left] of room) {
          const taken = picks.filter((pick) => scopeOf(pick.lane) === scope).length
          expect(taken).toBeLessThanOrEqual(Math.max(0, left))
        }
      }),
    )
  })

  test('leaves nothing free that could be used', () => {
    fc.assert(
      fc.property(someLanes, someRoom, free, virtualTime, (lanes, room, slots, now) => {
        const picks = pickClaims(lanes, room, { free: slots, virtualTime: now })
        const queuedBy = new Map<string, number>()
        for (const each of lanes) {
          queuedBy.set(scopeOf(each), (queuedBy.get(scopeOf(each)) ?? 0) + each.queued)
        }
        const most = [...queuedBy].reduce(
          (sum, [scope, queued]) => sum + Math.min(queued, Math.max(0, room.get(scope) ?? queued)),
          0,
        )
        expect(picks.length).toBe(Math.min(slots, most))
      }),
    )
  })

  test('moves virtual time forward only', () => {
    fc.assert(
      fc.property(someLanes, free, virtualTime, (lanes, slots, now) => {
        const times = pickClaims(lanes, UNCAPPED, { free: slots, virtualTime: now }).map(
          (pick) => pick.virtualTime,
        )
        expect(times).toEqual([...times].sort((a, b) => a - b))
        for (const time of times) expect(time).toBeGreaterThanOrEqual(now)
      }),
    )
  })
})

describe('fairness', () => {
  test('lanes that always wait are served in proportion to their weights', () => {
    const weights = { a: 1, b: 2, c: 4 }
    const queue = new Queue(
      Object.entries(weights).map(([name, weight]) => lane(name, { weight, queued: 10_000 })),
    )
    const served: Record<string, number> = { a: 0, b: 0, c: 0 }
    for (let round = 0; round < 70; round++) {
      for (const name of queue.claim(10)) served[name] = (served[name] ?? 0) + 1
    }
    for (const [name, weight] of Object.entries(weights)) {
      expect(Math.abs((served[name] ?? 0) - weight * 100)).toBeLessThanOrEqual(weight + 1)
    }
  })

  test('one tenant with 10,000 queued runs leaves room for twenty with one each within 40 claims', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(500), (perRound, before) => {
        const queue = new Queue([lane('giant', { queued: 10_000 })])
        while (queue.virtualTime < before) queue.claim(50)
        for (let i = 0; i < 20; i++) queue.add(`small_${i}`)
        const claimed: string[] = []
        while (claimed.length < 40) claimed.push(...queue.claim(perRound))
        const small = claimed.slice(0, 40).filter((name) => name !== 'giant')
        expect(new Set(small).size).toBe(20)
      }),
      { numRuns: 30 },
    )
  })

  test('no lane starves: between two turns of a waiting lane every other gets a bounded number', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 8 })), {
          maxLength: 60,
        }),
        (arrivals) => {
          const queue = new Queue([lane('patient', { queued: 1_000 })])
          let waited = 0
          for (const [tenant, count, slots] of arrivals) {
            queue.add(`t${tenant}`, count)
            for (const name of queue.claim(slots)) {
              waited = name === 'patient' ? 0 : waited + 1
              // Six others: each at most twice between two turns (once in a tie before, once after).
              expect(waited).toBeLessThanOrEqual(12)
            }
          }
        },
      ),
    )
  })

  test('a lane that was idle is served next, and gathers no credit for the time it was idle', () => {
    const queue = new Queue([lane('busy', { queued: 10_000 }), lane('sleeper', { queued: 0 })])
    for (let i = 0; i < 100; i++) queue.claim(1)
    queue.add('sleeper', 100)
    const claimed = Array.from({ length: 20 }, () => queue.claim(1)[0])
    expect(claimed.slice(0, 2)).toContain('sleeper')
    expect(claimed.filter((name) => name === 'sleeper').length).toBeLessThanOrEqual(11)
  })

  test('a lane behind its cap does not hold up another', () => {
    const blocked = Array.from({ length: 50 }, (_, i) =>
      lane(`b${i}`, { organizationId: 'org_full', queued: 9 }),
    )
    const open = lane('open', { tag: 1_000 })
    const room = new Map([['org_full/live', 0]])
    const picks = pickClaims([...blocked, open], room, { free: 8, virtualTime: 0 })
    expect(picks.map((pick) => pick.lane.tenantId)).toEqual(['open'])
  })
})
