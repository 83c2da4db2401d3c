import { expect, test } from 'vitest'
import { manualClock } from '../../test/harness/manual-clock.ts'
import type { Gateway } from './gateway.ts'
import { operationRoutes, type Phase } from './routes/operations.ts'

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }

/** Readiness looks at the database, the clock and the log; the rest of a gateway stays away. */
function readinessOf(query: () => Promise<object[]>, phase: Phase = 'ready') {
  const clock = manualClock()
  const gateway = { db: { query }, clock, log: quiet } as unknown as Gateway
  const { getReadiness } = operationRoutes(gateway, () => phase)
  type Call = Parameters<typeof getReadiness>[0]
  return { clock, ask: async () => getReadiness({} as Call) }
}

const nothing = async () => []

test('a server that is starting or draining is not ready', async () => {
  for (const phase of ['starting', 'draining'] as const) {
    expect(await readinessOf(nothing, phase).ask()).toMatchObject({ status: 503, body: { status: phase } })
  }
})

test('a server without its database is not ready', async () => {
  const away = async (): Promise<object[]> => Promise.reject(new Error('gone'))
  expect(await readinessOf(away).ask()).toMatchObject({
    status: 503,
    body: { status: 'database_unavailable' },
  })
})

test('a database that does not answer in two seconds counts as away', async () => {
  const { ask, clock } = readinessOf(() => new Promise(() => undefined))
  const answer = ask()
  clock.advance(2_000)
  expect(await answer).toMatchObject({ status: 503, body: { status: 'database_unavailable' } })
})

test('a database that may lose what it acknowledged is ready with a warning', async () => {
  const { body } = await readinessOf(async () => [{ name: 'fsync' }]).ask()
  expect(body).toEqual({ status: 'ready', warnings: [expect.stringMatching(/^fsync is off/)] })
})
