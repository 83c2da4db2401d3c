import { expect } from 'vitest'
import type { GatewayProcess } from '../harness/gateway-process.ts'
import type { Answer, Asking, Gateways } from '../harness/gateways.ts'
import { FINAL, Reference } from './reference.ts'

/** Sends random requests to random gateways, and compares every answer with what the reference says. */
export class RandomRequests {
  readonly reference: Reference
  readonly #gateways: Gateways
  readonly #random: () => number
  #keysUsed = 0

  constructor(
    gateways: Gateways,
    { random, ...limits }: { random: () => number; cap: number; credits: number },
  ) {
    this.#gateways = gateways
    this.#random = random
    const { database } = gateways
    this.reference = new Reference({
      ask: (path, asking) => this.#ask(path, asking),
      database,
      ...limits,
    })
  }

  #below = (n: number): number => Math.floor(this.#random() * n)

  #pick<T>(of: readonly T[]): T | undefined {
    return of[this.#below(of.length)]
  }

  get #gateway(): GatewayProcess {
    const one = this.#pick(this.#gateways.all)
    if (one === undefined) throw new Error('no gateway is at work')
    return one
  }

  #ask(path: string, asking: Asking = {}): Promise<Answer> {
    return this.#gateways.ask(this.#gateway, path, asking)
  }

  #post(path: string, key: string, body: object): Promise<Answer> {
    return this.#ask(path, { body, headers: { 'idempotency-key': key } })
  }

  /** One random request, or two at once; then whatever must hold. */
  async step(): Promise<string> {
    const requests = this.#random() < 0.25 ? [this.#request(), this.#request()] : [this.#request()]
    const names = await Promise.all(requests)
    await this.reference.check()
    return names.join(' + ')
  }

  #request(): Promise<string> {
    const dice = this.#random()
    if (dice < 0.3) return this.#create(`key-${++this.#keysUsed}`, this.#below(4))
    if (dice < 0.36) return this.#createAgain()
    if (dice < 0.5) return this.#cancel()
    if (dice < 0.58) return this.#retry()
    if (dice < 0.7) return this.#list()
    if (dice < 0.86) return this.#wait()
    if (dice < 0.91) return this.#grant()
    return dice < 0.995 ? this.#read() : this.#kill()
  }

  async #create(key: string, steps: number): Promise<string> {
    const delayMs = this.#below(12)
    const script = Array.from({ length: steps + 1 }, (_, n) => ({
      text: `step ${n + 1}`,
      delayMs,
      ...(n < steps && { calls: [{ tool: 'none', arguments: { n } }] }),
    }))
    const body = {
      agent: 'scripted',
      input: { steps: script },
      constraints: { maxCredits: 5 },
      metadata: { key },
    }
    const { status, body: run } = await this.#post('/v1/runs', key, body)
    if (status === 402) return 'create refused'
    expect(status, JSON.stringify(run)).toBe(201)
    const known = this.reference.keys.get(key)
    if (known !== undefined) expect(run.id).toBe(known.id)
    this.reference.learn(run.id, steps + 1)
    this.reference.keys.set(key, { id: run.id, steps })
    return 'create'
  }

  /** The same body gives the run it gave before; another body is refused. */
  async #createAgain(): Promise<string> {
    const [key, known] = this.#pick([...this.reference.keys.entries()].slice(-50)) ?? []
    if (key === undefined || known === undefined) return 'nothing to repeat'
    const stored = await this.#ask(`/v1/runs/${known.id}`)
    const { input, constraints } = stored.body
    const body = {
      agent: 'scripted',
      input,
      constraints: { maxCredits: constraints.maxCredits },
      metadata: { key },
    }
    const same = await this.#post('/v1/runs', key, body)
    expect([same.status, same.body.id]).toEqual([201, known.id])
    const other = await this.#post('/v1/runs', key, { ...body, metadata: { key: 'another' } })
    expect([other.status, other.body.error?.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    return 'create again'
  }

  async #cancel(): Promise<string> {
    const known = this.#pick([...this.reference.runs.values()].slice(-20))
    if (known === undefined) return 'nothing to cancel'
    // Known before the answer: another request may see the effect first.
    const before = known.canceled
    known.canceled = true
    const { status, body } = await this.#ask(`/v1/runs/${known.id}/cancel`, { body: {} })
    if (status === 409) {
      expect(body.error?.code).toBe('RUN_FINISHED')
      known.canceled = before
      return 'cancel refused'
    }
    expect([200, 202]).toContain(status)
    expect(body.state === 'canceled' || body.cancelRequestedAt !== null).toBe(true)
    return 'cancel'
  }

  async #retry(): Promise<string> {
    const known = this.#pick([...this.reference.runs.values()].slice(-30))
    if (known === undefined) return 'nothing to retry'
    const key = `retry-${++this.#keysUsed}`
    const { status, body } = await this.#post(`/v1/runs/${known.id}/retry`, key, {})
    if (status === 402) return 'retry refused'
    if (status === 409) {
      expect(body.error?.code).toBe('CONFLICT')
      return 'retry refused'
    }
    expect([status, body.retryOf]).toEqual([201, known.id])
    this.reference.learn(body.id, known.steps)
    return 'retry'
  }

  /** Newest first, each once, none of another state, and nothing acknowledged is missing. */
  async #list(): Promise<string> {
    const newest = [...this.reference.runs.keys()].slice(-5)
    const page = await this.#ask('/v1/runs?limit=50')
    const ids = page.body.data.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const id of newest) expect(ids).toContain(id)
    const moments = page.body.data.map(({ createdAt }) => createdAt)
    expect(moments).toEqual(moments.toSorted().reverse())
    const state = this.#pick(['queued', 'running', ...FINAL]) ?? ''
    const filtered = await this.#ask(`/v1/runs?limit=20&state=${state}`)
    for (const run of filtered.body.data) expect(run.state).toBe(state)
    return 'list'
  }

  async #wait(): Promise<string> {
    const known = this.#pick(this.reference.open)
    if (known === undefined) return 'nothing to wait for'
    const { status, body } = await this.#ask(`/v1/runs/${known.id}`, {
      headers: { prefer: 'wait=1' },
    })
    expect([status, body.id]).toEqual([200, known.id])
    return 'wait'
  }

  async #grant(): Promise<string> {
    const amount = 1 + this.#below(30)
    const key = `grant-${++this.#keysUsed}`
    const { status } = await this.#post('/v1/credits/grants', key, { amountCents: amount, reason: 'more' })
    expect(status).toBe(201)
    this.reference.granted += amount
    return 'grant'
  }

  async #read(): Promise<string> {
    const known = this.#pick([...this.reference.runs.values()])
    if (known !== undefined) await this.reference.look(known)
    return 'read'
  }

  async #kill(): Promise<string> {
    const victim = this.#gateway
    await victim.end('kill')
    await victim.start()
    return 'kill'
  }
}
