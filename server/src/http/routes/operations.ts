import { buildOpenApi } from '../../contract/openapi.ts'
import { durabilityWarnings } from '../../storage/durability.ts'
import { docsPage } from '../docs-page.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'

/** Whether the server takes work. */
export type Phase = 'starting' | 'ready' | 'draining'

export function operationRoutes(
  gateway: Gateway,
  phase: () => Phase,
): Pick<Handlers, 'getHealth' | 'getReadiness' | 'getMetrics' | 'getVersion' | 'getOpenApi' | 'getDocs'> {
  const openApi = JSON.stringify(buildOpenApi())
  const docs = docsPage()
  return {
    getHealth: () => ({ status: 200, body: { status: 'ok' } }),

    async getReadiness() {
      if (phase() !== 'ready') return { status: 503, body: { status: phase() } }
      const warnings = await askDatabase(gateway)
      if (warnings === null) return { status: 503, body: { status: 'database_unavailable' } }
      return { status: 200, body: { status: 'ready', ...(warnings.length > 0 && { warnings }) } }
    },

    getMetrics: () => ({
      status: 200,
      body: gateway.metrics.render(),
      headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
    }),

    getVersion: () => ({ status: 200, body: { version: gateway.version, node: process.version } }),

    getOpenApi: () => ({
      status: 200,
      body: openApi,
      headers: { 'content-type': 'application/json; charset=utf-8', 'access-control-allow-origin': '*' },
    }),

    getDocs: () => ({
      status: 200,
      body: docs.html,
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': docs.contentSecurityPolicy,
      },
    }),
  }
}

const ANSWER_WITHIN_MS = 2_000

/** What an operator should know about the database, or `null` when it does not answer in time. */
async function askDatabase({ db, clock, log }: Gateway): Promise<string[] | null> {
  let stopWaiting = (): void => undefined
  const late = new Promise<null>((resolve) => {
    stopWaiting = clock.after(ANSWER_WITHIN_MS, () => resolve(null))
  })
  const answered = durabilityWarnings(db).catch((error: unknown) => {
    log.warn({ err: error }, 'The database does not answer.')
    return null
  })
  return Promise.race([answered, late]).finally(stopWaiting)
}
