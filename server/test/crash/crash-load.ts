import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Receiver, startReceiver } from '../harness/receiver.ts'
import type { CrashWorld } from './crash-world.ts'

/** Clients that create runs of three steps, and do not give up until each is acknowledged. */
export class CrashLoad {
  /** Acknowledged runs by idempotency key. */
  readonly acknowledged = new Map<string, string>()
  readonly problems: string[] = []
  /** Runs of which a problem was told, so that each is told once. */
  readonly reported = new Set<string>()
  readonly #world: CrashWorld
  readonly #random: () => number
  readonly #receiver: Receiver

  private constructor(world: CrashWorld, random: () => number, receiver: Receiver) {
    this.#world = world
    this.#random = random
    this.#receiver = receiver
  }

  static async open(world: CrashWorld, random: () => number): Promise<CrashLoad> {
    return new CrashLoad(world, random, await startReceiver())
  }

  /** So many creates, spread over `spreadMs`; fulfils when all are acknowledged. */
  async create(count: number, spreadMs: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        await sleep(this.#random() * spreadMs)
        await this.#createOne()
      }),
    )
  }

  async #createOne(): Promise<void> {
    const key = randomUUID()
    const delayMs = 40 + Math.floor(this.#random() * 260)
    // A step without a call is the last; the tool does not exist, which the agent hears and goes on.
    const call = (n: number) => ({ calls: [{ tool: 'note', arguments: { n } }] })
    const steps = [1, 2, 3].map((n) => ({ text: `step ${n}`, delayMs, ...(n < 3 && call(n)) }))
    const hasWebhook = this.#random() < 0.4
    const body = JSON.stringify({
      agent: 'scripted',
      input: { steps },
      ...(hasWebhook && { webhookUrl: this.#receiver.url }),
    })
    for (;;) {
      const answer = await this.#post(key, body)
      if (answer?.status === 201) {
        this.#acknowledge(key, answer.id)
        // A client that asks again, as one does after a crash, hears of the same run.
        if (this.#random() > 0.3) return
        const again = await this.#post(key, body)
        if (again?.status === 201) this.#acknowledge(key, again.id)
        return
      }
      if (answer !== null && answer.status < 500 && answer.status !== 429) {
        this.problems.push(`a create was answered ${answer.status}: ${answer.text.slice(0, 300)}`)
        return
      }
      await sleep(50)
    }
  }

  #acknowledge(key: string, id: string): void {
    const known = this.acknowledged.get(key)
    if (known !== undefined && known !== id) this.problems.push(`key ${key} gave ${known}, then ${id}`)
    this.acknowledged.set(key, id)
  }

  /** Null when there was no answer. */
  async #post(key: string, body: string): Promise<{ status: number; id: string; text: string } | null> {
    try {
      const answer = await fetch(`${this.#world.url}/v1/runs`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${this.#world.liveKey}`,
          'content-type': 'application/json',
          'idempotency-key': key,
        },
        body,
        signal: AbortSignal.timeout(60_000),
      })
      const text = await answer.text()
      const id: string = answer.status === 201 ? JSON.parse(text).id : ''
      return { status: answer.status, id, text }
    } catch {
      return null
    }
  }

  /** Each webhook id came with the same bytes every time. */
  checkWebhooks(): string[] {
    const bodies = new Map<string, string>()
    const problems: string[] = []
    for (const { headers, body } of this.#receiver.received) {
      const id = String(headers['webhook-id'])
      const first = bodies.get(id)
      if (first !== undefined && first !== body) problems.push(`webhook ${id} came with other bytes`)
      bodies.set(id, body)
    }
    return problems
  }

  get receivedIds(): ReadonlySet<string> {
    return new Set(this.#receiver.received.map(({ headers }) => String(headers['webhook-id'])))
  }

  get receivedCount(): number {
    return this.#receiver.received.length
  }

  close(): Promise<void> {
    return this.#receiver.close()
  }
}
