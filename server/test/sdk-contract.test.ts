import { describe, expect, expectTypeOf, test } from 'vitest'
import * as sdk from '../../sdk/typescript/src/index.ts'
import type { WireRun } from '../../sdk/typescript/src/resources/runs.ts'
import type * as account from '../src/contract/account.ts'
import { endpointList } from '../src/contract/endpoints.ts'
import type * as runs from '../src/contract/run.ts'
import type { Static } from '../src/contract/schema.ts'
import type * as orders from '../src/contract/work-order.ts'

test('every endpoint with a key has its method in the SDK, and no method asks for another', async () => {
  const asked = new Set<string>()
  const client = new sdk.AgentGate({
    apiKey: 'org_test_1',
    baseUrl: 'http://gate.example',
    async fetch(input, init) {
      const { pathname } = new URL(input instanceof Request ? input.url : input)
      asked.add(`${init?.method} ${pathname}`)
      return Response.json({ state: 'completed', data: [], transactions: [], nextCursor: null })
    },
  })
  const { workOrders, runs, credits, keys, gitCredentials, webhookSecret } = client
  await workOrders.create({
    taskPrompt: 'x',
    workspaceSource: { type: 'git', repository: 'https://a.example' },
  })
  await workOrders.get('{id}')
  await workOrders.list()
  await runs.create({ agent: 'scripted', input: 'x' })
  await runs.get('{id}')
  await runs.list()
  await runs.cancel('{id}')
  await runs.retry('{id}')
  await runs.wait('{id}')
  await runs.events('{id}')
  await runs.artifacts.list('{id}')
  await runs.artifacts.get('{id}', '{name}')
  await credits.get()
  await credits.usage.list()
  await credits.grants.create({ amountCents: 1 })
  await keys.create({})
  await keys.get('{id}')
  await keys.list()
  await keys.revoke('{id}')
  await gitCredentials.create({ host: 'a.example', kind: 'token', use: 'read', secret: 's' })
  await gitCredentials.list()
  await gitCredentials.delete('{id}')
  await webhookSecret.get()
  await webhookSecret.rotate()

  const offered = endpointList.filter((endpoint) => endpoint.scope !== null)
  const names = offered.map(({ method, path }) => `${method} ${path}`)
  expect([...asked].map(decodeURIComponent).toSorted()).toEqual(names.toSorted())
})

/** Checked by the compiler; nothing here is called. */
describe('the types of SDK and contract agree', () => {
  test('answers of the gate are what the SDK promises', () => {
    expectTypeOf<keyof Static<typeof runs.Run>>().toEqualTypeOf<keyof WireRun>()
    expectTypeOf<Static<typeof runs.Run>['state']>().toEqualTypeOf<sdk.RunState>()
    expectTypeOf<Static<typeof runs.Run>['status']>().toEqualTypeOf<sdk.RunStatus>()
    expectTypeOf<Static<typeof runs.Run>['timing']>().toEqualTypeOf<sdk.Run['timing']>()
    expectTypeOf<keyof Static<typeof runs.Run>['usage']>().toEqualTypeOf<keyof sdk.RunUsage>()
    expectTypeOf<keyof Static<typeof orders.WorkOrder>>().toEqualTypeOf<keyof sdk.WorkOrder>()
    expectTypeOf<keyof Static<typeof orders.CreatedWorkOrder>>().toEqualTypeOf<keyof sdk.CreatedWorkOrder>()
    expectTypeOf<Static<typeof runs.Artifact>>().toEqualTypeOf<sdk.Artifact>()
    expectTypeOf<Static<typeof account.CreditBalance>>().toEqualTypeOf<sdk.CreditBalance>()
    expectTypeOf<Static<typeof account.CreditTransaction>>().toExtend<sdk.CreditTransaction>()
    expectTypeOf<keyof Static<typeof account.ApiKey>>().toEqualTypeOf<keyof sdk.ApiKey>()
    expectTypeOf<keyof Static<typeof account.CreatedKey>>().toEqualTypeOf<keyof sdk.CreatedKey>()
    expectTypeOf<Static<typeof account.GitCredential>>().toExtend<sdk.GitCredential>()
    expectTypeOf<Static<typeof account.WebhookSecret>>().toEqualTypeOf<sdk.WebhookSecret>()
  })

  test('requests of the SDK are what the gate takes', () => {
    expectTypeOf<keyof Static<typeof orders.CreateWorkOrderRequest>>().toEqualTypeOf<
      keyof sdk.CreateWorkOrderRequest
    >()
    expectTypeOf<sdk.CreateRunRequest>().toExtend<Static<typeof runs.CreateRunRequest>>()
    expectTypeOf<sdk.Constraints>().toExtend<
      NonNullable<Static<typeof runs.CreateRunRequest>['constraints']>
    >()
    expectTypeOf<sdk.CreateGrantRequest>().toExtend<Static<typeof account.CreateGrantRequest>>()
    expectTypeOf<sdk.CreateGitCredentialRequest>().toExtend<
      Static<typeof account.CreateGitCredentialRequest>
    >()
    expectTypeOf<keyof sdk.ListUsageParams>().toEqualTypeOf<keyof Static<typeof account.CreditUsageQuery>>()
    expectTypeOf<keyof Omit<sdk.ListRunsParams, 'metadata'>>().toEqualTypeOf<
      keyof Static<typeof runs.ListRunsQuery>
    >()
  })
})
