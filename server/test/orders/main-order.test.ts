import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { repairScript } from '../../../demo/repair-script.ts'
import { unwrapWebhook, verifySignature } from '../../../sdk/typescript/src/index.ts'
import {
  BROKEN_PROJECT,
  hostRepository,
  type Neighbourhood,
  PROJECT_REPAIR,
  startNeighbourhood,
} from '../harness/house.ts'
import { typeOf } from '../harness/receiver.ts'

describe('a work order', () => {
  let here: Neighbourhood
  beforeAll(async () => {
    here = await startNeighbourhood(repairScript(PROJECT_REPAIR))
  })
  afterAll(() => here[Symbol.asyncDispose]())

  test('becomes a verified pull request, is charged once and announced', async () => {
    const { gate, host, receiver } = here
    const repository = await hostRepository(here, 'sums', BROKEN_PROJECT)
    const order = await gate.client.workOrders.create({
      taskPrompt: 'Make the failing test pass.',
      workspaceSource: { type: 'git', repository: repository.url },
      webhookUrl: receiver.url,
      metadata: { ticket: 'T-1', nothing: null },
    })
    expect(order).toMatchObject({ status: 'pending', metadata: { ticket: 'T-1', nothing: null } })
    const run = await gate.client.runs.wait(order.runId, { timeout: 60_000 })
    expect(run.error).toBe(null)
    expect(run).toMatchObject({
      state: 'completed',
      status: 'succeeded',
      verification: 'passed',
      iterations: 2,
    })

    const [pull] = host.pulls('acme', 'sums')
    expect(run.prUrl).toBe(pull?.url)
    expect(await host.readFile('acme', 'sums', `agentgate/${run.id}`, 'sum.js')).toContain('a + b')

    const delivery = await receiver.wait((one) => typeOf(one) === 'run.completed')
    expect(
      verifySignature(delivery.body, String(delivery.headers['x-agentgate-signature']), gate.webhookSecret),
    ).toBe(true)
    const event = unwrapWebhook(delivery.body, delivery.headers, gate.webhookSecret)
    expect(event.data).toMatchObject({
      runId: run.id,
      prUrl: run.prUrl,
      status: 'succeeded',
      metadata: { ticket: 'T-1' },
    })

    const types: string[] = []
    let seq = 0
    for await (const each of gate.client.runs.events(run.id)) {
      expect(each.seq).toBe(++seq)
      types.push(each.type)
    }
    expect(types).toEqual(
      expect.arrayContaining([
        'workspace.ready',
        'verification.failed',
        'verification.passed',
        'delivery.pushed',
        'delivery.pull_request',
      ]),
    )
    expect(types.at(-1)).toBe('run.completed')
    expect(run.lastSeq).toBe(seq)

    const credits = await gate.client.credits.get()
    expect(run.cost.credits).toBeGreaterThan(0)
    expect(credits.totalCreditsCents).toBe(10_000 - run.cost.credits)
    expect(credits.reservedCreditsCents).toBe(0)
  })
})
