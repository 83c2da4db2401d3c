import { describe, expect, expectTypeOf, test } from 'vitest'
import * as sdk from '../src/index.ts'

test('the package exports these names and no others', () => {
  expect(Object.keys(sdk).sort()).toEqual([
    'APIError',
    'AgentGate',
    'AgentGateError',
    'AuthenticationError',
    'BadRequestError',
    'ConflictError',
    'ConnectionError',
    'InsufficientCreditsError',
    'NotFoundError',
    'Page',
    'PagePromise',
    'PermissionDeniedError',
    'RateLimitError',
    'ServerError',
    'TimeoutError',
    'UnprocessableError',
    'VERSION',
    'WebhookVerificationError',
    'createVerifier',
    'isFinalEvent',
    'unwrapWebhook',
    'verifySignature',
  ])
})

test('every error of an answer is an APIError, a timeout is a lost connection', () => {
  const answers = [
    sdk.BadRequestError,
    sdk.AuthenticationError,
    sdk.InsufficientCreditsError,
    sdk.PermissionDeniedError,
    sdk.NotFoundError,
    sdk.ConflictError,
    sdk.UnprocessableError,
    sdk.RateLimitError,
    sdk.ServerError,
  ]
  for (const Class of answers) expect(Class.prototype).toBeInstanceOf(sdk.APIError)
  expect(sdk.TimeoutError.prototype).toBeInstanceOf(sdk.ConnectionError)
  for (const Class of [sdk.APIError, sdk.ConnectionError, sdk.WebhookVerificationError]) {
    expect(Class.prototype).toBeInstanceOf(sdk.AgentGateError)
  }
})

/** Checked by the compiler; nothing here is called. */
describe('the types', () => {
  type Client = sdk.AgentGate
  const workspaceSource = { type: 'git', repository: 'https://git.example/a.git' } as const

  test('give metadata back as it was sent, never undefined', () => {
    const create = (client: Client) =>
      client.workOrders.create({ taskPrompt: 'x', workspaceSource, metadata: { requestId: 'r', tries: 1 } })
    expectTypeOf<Awaited<ReturnType<typeof create>>['metadata']>().toEqualTypeOf<{
      requestId: string
      tries: number
    }>()

    const plain = (client: Client, request: sdk.CreateWorkOrderRequest) => client.workOrders.create(request)
    expectTypeOf<Awaited<ReturnType<typeof plain>>['metadata']>().toEqualTypeOf<sdk.Metadata>()

    const without = (client: Client) => client.workOrders.create({ taskPrompt: 'x', workspaceSource })
    expectTypeOf<Awaited<ReturnType<typeof without>>['metadata']>().toEqualTypeOf<sdk.Metadata>()
  })

  test('give a run error and prUrl in every status', () => {
    expectTypeOf<sdk.Run['prUrl']>().toEqualTypeOf<string | null>()
    expectTypeOf<sdk.Run['error']>().toEqualTypeOf<sdk.RunError | null>()
    expectTypeOf<sdk.Run['status']>().toEqualTypeOf<
      'pending' | 'running' | 'succeeded' | 'failed' | 'canceled'
    >()
    expectTypeOf<'loop_detected'>().toExtend<sdk.StatusReason>()
    expectTypeOf<undefined>().not.toExtend<sdk.Run[keyof sdk.Run]>()
  })

  test('narrow events by type and leave room for new ones', () => {
    const read = (event: sdk.RunEvent) => {
      switch (event.type) {
        case 'run.completed':
          expectTypeOf(event.data.cost.credits).toEqualTypeOf<number>()
          return event.data.prUrl
        case 'step.started':
          return event.data.step
        case 'verification.failed':
          return event.data.gates
        default:
          expectTypeOf(event.data.runId).toEqualTypeOf<string>()
          return event.seq
      }
    }
    expectTypeOf(read).returns.toEqualTypeOf<string | null | number | sdk.GateSummary[]>()
    expectTypeOf<sdk.UnknownRunEvent>().toExtend<sdk.RunEvent>()
    expectTypeOf<sdk.UnknownRunEvent['type']>().toExtend<string>()
    expectTypeOf<sdk.RunEvent>().toExtend<sdk.WebhookEvent>()
  })

  test('list, iterate and wait with their own shapes', () => {
    expectTypeOf<Awaited<ReturnType<Client['runs']['list']>>>().toEqualTypeOf<sdk.Page<sdk.Run>>()
    expectTypeOf<ReturnType<Client['runs']['wait']>>().resolves.toEqualTypeOf<sdk.Run>()
    const follow = (client: Client) => client.runs.events('run_1', { follow: true })
    expectTypeOf<ReturnType<typeof follow>>().toExtend<AsyncIterable<sdk.RunEvent>>()
    const page = (client: Client) => client.runs.events('run_1')
    expectTypeOf<ReturnType<typeof page>>().toEqualTypeOf<sdk.PagePromise<sdk.RunEvent>>()
    expectTypeOf(sdk.verifySignature).returns.toEqualTypeOf<boolean>()
    expectTypeOf<sdk.RateLimitError['retryAfter']>().toEqualTypeOf<number | undefined>()
  })
})
