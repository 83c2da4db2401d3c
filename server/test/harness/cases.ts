import { expect, vi } from 'vitest'
import { type GitHost, type NewRepository, startGitHost } from '../../../demo/git-host.ts'
import type { ModelRequest, ModelScript, ModelStep } from '../../../demo/model-server.ts'
import type { Artifact, CreateWorkOrderRequest, Run, RunEvent } from '../../../sdk/typescript/src/index.ts'
import type { Effects } from '../../src/app.ts'
import type { JsonObject } from '../../src/domain/json.ts'
import { type Neighbourhood, startNeighbourhood } from './house.ts'

/** Orders are heavy, and several tests run at once. */
const PATIENCE_MS = 60_000
vi.setConfig({ testTimeout: 2 * PATIENCE_MS, hookTimeout: PATIENCE_MS })

/** Lets a gate reach every host of a test, and work on as many orders as tests run at once. */
const LOOPBACK = { AGENTGATE_ALLOWED_PRIVATE_HOSTS: '127.0.0.0/8', AGENTGATE_JAIL_SLOTS: '8' }

/** A model that knows many stories: the prompt names the one it tells, as `#name`. */
export const stories =
  (book: Readonly<Record<string, ModelScript>>): ModelScript =>
  (request: ModelRequest): ModelStep => {
    const name = /#([a-z-]+)/.exec(JSON.stringify(request.body))?.[1] ?? ''
    const script = book[name] ?? []
    const nothing = { text: 'Nothing is left to do.' }
    return typeof script === 'function' ? script(request) : (script[request.assistantTurns] ?? nothing)
  }

export const call = (tool: string, args: JsonObject | string = {}): ModelStep => ({
  text: `I use ${tool}.`,
  calls: [{ tool, arguments: args }],
})
export const write = (path: string, content: string): ModelStep => call('write_file', { path, content })
export const finish = (summary = 'Done.'): ModelStep => call('finish', { summary })

/** Passes when the agent wrote the answer. */
export const ANSWERED = {
  gates: [{ name: 'answered', level: 'L1', check: { type: 'command', run: 'grep -q right answer.txt' } }],
} as const satisfies CreateWorkOrderRequest['gatePlan']

export const FILES = { 'README.md': '# a project\n', 'src/one.txt': 'one\n' } as const

/** A neighbourhood in which every repository may have a host, and so a credential, of its own. */
export interface Cases extends AsyncDisposable {
  readonly here: Neighbourhood
  /** A host with one repository, `acme/project`, which the gate may publish to unless told otherwise. */
  host(
    options?: Partial<NewRepository> & { credential?: 'publish' | 'wrong' | 'none' | 'no_forge' },
  ): Promise<Hosted>
  /** Submits an order and waits for its end. */
  run(order: OrderWish): Promise<Run>
  submit(order: OrderWish): Promise<string>
  wait(runId: string): Promise<Run>
  events(runId: string): Promise<RunEvent[]>
  artifacts(runId: string): Promise<Map<string, Artifact & { text: string }>>
}

export type OrderWish = Omit<Partial<CreateWorkOrderRequest>, 'workspaceSource'> & {
  repository: string
  branch?: string
  commit?: string
  /** The story that the model tells. */
  story?: string
}

export interface Hosted {
  host: GitHost
  repository: string
  token: string
}

export async function startCases(
  script: ModelScript,
  env: Record<string, string> = {},
  effects: Partial<Effects> = {},
): Promise<Cases> {
  const modelRetry = { firstMs: 10, factor: 1, maxMs: 10 }
  const here = await startNeighbourhood(script, {
    env: { ...LOOPBACK, ...env },
    effects: { modelRetry, ...effects },
  })
  const hosts: GitHost[] = []
  const { gate } = here
  const submit = async ({ repository, branch, commit, story, ...order }: OrderWish): Promise<string> => {
    const place = { ...(branch && { branch }), ...(commit && { commit }) }
    const created = await gate.client.workOrders.create({
      taskPrompt: `Work on this: #${story ?? 'nothing'}`,
      workspaceSource: { type: 'git', repository, ...place },
      ...order,
    })
    return created.runId
  }
  const wait = (runId: string): Promise<Run> => gate.client.runs.wait(runId, { timeout: PATIENCE_MS })
  return {
    here,
    async host({ credential = 'publish', ...repository } = {}) {
      const host = await startGitHost()
      hosts.push(host)
      const wanted = { owner: 'acme', name: 'project', files: FILES, private: true, ...repository }
      const { url, apiBaseUrl, token } = await host.createRepository(wanted)
      if (credential !== 'none')
        await gate.client.gitCredentials.create({
          host: new URL(url).host,
          kind: 'token',
          use: 'publish',
          secret: credential === 'wrong' ? 'not-the-token' : token,
          ...(credential === 'publish' && { apiBaseUrl }),
        })
      return { host, repository: url, token }
    },
    submit,
    wait,
    run: async (order) => wait(await submit(order)),
    async events(runId) {
      const events: RunEvent[] = []
      for await (const event of gate.client.runs.events(runId, { limit: 100 })) events.push(event)
      return events
    },
    async artifacts(runId) {
      const found = new Map<string, Artifact & { text: string }>()
      for await (const artifact of gate.client.runs.artifacts.list(runId)) {
        const content = await gate.client.runs.artifacts.get(runId, artifact.name)
        found.set(artifact.name, { ...artifact, text: content.text() })
      }
      return found
    },
    async [Symbol.asyncDispose]() {
      await here[Symbol.asyncDispose]()
      await Promise.all(hosts.map((host) => host.close()))
    },
  }
}

export interface Failure {
  reason: string
  stage: 'workspace' | 'agent' | 'verification' | 'delivery'
  /** Must stand in the message. */
  says: RegExp
  retryable?: boolean
}

/** The run failed for this reason and no other, and says in words what happened and what to do. */
export function expectFailure(run: Run, { reason, stage, says, retryable }: Failure): void {
  expect(run).toMatchObject({
    state: 'failed',
    status: 'failed',
    statusReason: reason,
    error: { code: reason.toUpperCase(), details: { stage } },
  })
  expect(run.error?.message).toMatch(says)
  expect(`${run.error?.message} ${run.error?.hint}`).toMatch(/\.$/)
  expect(run.error?.hint).toMatch(/^[A-Z].*\.$/)
  if (retryable !== undefined) expect(run.error?.retryable).toBe(retryable)
  expect(run.completedAt).not.toBeNull()
}

/** Once nothing is under way nothing is held, and what was spent is what the runs were charged. */
export async function expectSettled({ here: { gate } }: Cases): Promise<void> {
  const { reservedCreditsCents, totalCreditsCents } = await gate.client.credits.get()
  expect(reservedCreditsCents).toBe(0)
  let charged = 0
  for await (const run of gate.client.runs.list({ limit: 100 })) charged += run.cost.credits
  expect(totalCreditsCents).toBe(10_000 - charged)
}
