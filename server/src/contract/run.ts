import type { JsonObject } from '../domain/json.ts'
import { RUN_STATES, RUN_STATUSES, STATUS_REASONS } from '../domain/lifecycle.ts'
import { callerFields, shownCallerFields } from './caller-fields.ts'
import { Constraints, ConstraintsRequest } from './constraints.ts'
import { pageQuery } from './page.ts'
import {
  anyJson,
  closed,
  count,
  flag,
  idOf,
  jsonObject,
  label,
  list,
  moment,
  named,
  nullable,
  nullableObject,
  oneWord,
  open,
  optional,
  Type,
  text,
} from './schema.ts'

export const mode = oneWord(['live', 'test'], 'Which world it belongs to; a key sees only its own.')

const input = Type.Unsafe<string | JsonObject>({
  type: ['string', 'object'],
  maxLength: 100_000,
  description: 'What the agent gets: a prompt, or an object of the agent’s own shape.',
})

const Script = closed(
  {
    script: anyJson('`{steps: [{text?, calls?: [{tool, arguments}], delayMs?, fail?: {reason, message}}]}`'),
  },
  'What the scripted agent does. Test keys only.',
)

/** Test keys may say what their agent does. */
export const testField = { test: optional(named('TestRequest', Script)) }

export const agentField = text('An agent’s id or slug.', { minLength: 1, maxLength: 64 })

export const CreateRunRequest = named(
  'CreateRunRequest',
  closed(
    {
      agent: optional(agentField),
      input: optional(input),
      task: optional(
        closed(
          { type: agentField, input },
          'The same as `agent` and `input`, in the words of the integration guide.',
        ),
      ),
      constraints: optional(ConstraintsRequest),
      ...callerFields,
      ...testField,
    },
    'Starts an agent. Either `agent` and `input`, or `task`.',
  ),
)

export const RetryRunRequest = named(
  'RetryRunRequest',
  closed({
    acceptEffects: optional(
      flag('Repeat the run although a write outside its workspace was, or may have been, made.'),
    ),
  }),
)

export const PublicError = named(
  'RunError',
  open({
    code: text('The status reason in upper case.'),
    message: text('One sentence for people.'),
    retryable: flag('Whether the same run may succeed when it is tried again.'),
    hint: optional(text('One sentence that says what to do.')),
    details: optional(
      Type.Unsafe<{ [key: string]: unknown }>({
        type: 'object',
        description: 'Facts to act on.',
        properties: {
          stage: oneWord(['workspace', 'agent', 'verification', 'delivery'], 'Where it went wrong.'),
        },
      }),
    ),
  }),
)

const PendingAction = named(
  'PendingAction',
  open({ type: oneWord(['tool_call', 'approval', 'effect'], 'What kind of answer the run waits for.') }),
)

const DeliveryResult = named(
  'DeliveryResult',
  open({
    mode: oneWord(['none', 'branch', 'pull_request'], 'What was delivered.'),
    branch: optional(text('The branch that was pushed.')),
    commit: optional(text('The commit that was verified and pushed.')),
    prUrl: optional(text('The pull request.')),
    reason: optional(text('Why less was delivered than was asked for, such as `no_forge`.')),
    likelySecrets: optional(
      count(
        'Added lines that look as if they held a secret: look at them before you merge. Absent for none.',
      ),
    ),
  }),
)

export const state = oneWord(RUN_STATES, 'Where the run stands in its life; the last three are final.')
export const status = oneWord(RUN_STATUSES, 'The same in coarse words.')
const statusReason = text(
  `Why it stands there: ${STATUS_REASONS.join(', ')}. More may be added; pass over what you do not know.`,
)

export const Run = named(
  'Run',
  open(
    {
      id: idOf('run', 'The run.'),
      workOrderId: optional(idOf('wo', 'The work order it serves; absent when it serves none.')),
      agent: open({
        id: text('The agent.'),
        slug: text('Its name.'),
        version: text('The version that runs.'),
      }),
      model: optional(open({ provider: text('Who serves the model.'), id: text('The model.') })),
      mode,
      state,
      status,
      statusReason,
      pending: list(
        PendingAction,
        'All the run waits for from outside; enough to go on after losing everything.',
      ),
      lastSeq: count('The number of its newest event.'),
      queuePosition: optional(
        count('Its place in its queue, 1 for the next; shown where one queued run is read.'),
      ),
      attempt: count('How many workers have taken it up.'),
      iterations: count('Rounds of work and verification that were begun.'),
      input: anyJson('What the agent got.'),
      output: anyJson(
        'What the agent answered; null until the run is completed, or when it is at `outputUrl`.',
      ),
      outputUrl: optional(text('Where the output is when it is over 16 KB.')),
      partialOutput: optional(anyJson('What there was of an output when the run failed or was canceled.')),
      verification: oneWord(
        ['passed', 'failed', 'none'],
        'What the gates said; `none` when there was nothing to verify with.',
      ),
      delivery: optional(DeliveryResult),
      prUrl: optional(text('The pull request.')),
      error: optional(PublicError),
      usage: open({
        steps: count('Model calls.'),
        toolCalls: count('Tool calls.'),
        inputTokens: count('Tokens sent, cached ones included.'),
        outputTokens: count('Tokens received.'),
        cachedTokens: count('Of the tokens sent, those the provider had cached.'),
      }),
      cost: open({
        credits: count(
          'Whole credits; settled when the run is final, before that the price of its steps so far.',
        ),
        currency: text('One credit is one cent of this.'),
        estimated: flag('Not exact: the run still works, or a model has no price.'),
      }),
      timing: open({
        queuedMs: nullable(count('From creation to start; null before.')),
        startedAt: nullable(moment('When a worker first took it up.')),
        completedAt: nullable(moment('When it became final.')),
        durationMs: nullable(count('Time in state `running`; null before the run is final.')),
        waitingMs: nullable(
          count('Time spent waiting for tool results and approvals; null before the run is final.'),
        ),
      }),
      createdAt: moment('When it was created.'),
      completedAt: optional(moment('When it became final.')),
      cancelRequestedAt: optional(moment('When somebody asked it to stop.')),
      canceledAt: optional(moment('When it was canceled: no work of it goes on after this.')),
      createdBy: open({ type: text('Always `key` today.'), id: text('The key that created it.') }),
      ...shownCallerFields,
      requestId: text('The `X-Request-Id` of the request that created it.'),
      traceparent: nullable(text('The W3C trace context of that request.')),
      retryOf: optional(idOf('run', 'The run that this one repeats.')),
      constraints: Constraints,
    },
    'One execution by an agent. Figures that time alone would change stand only once they are settled.',
  ),
)

/** `cancelled` is understood, never answered. */
const spelled = <const W extends readonly string[]>(words: W) => [...words, 'cancelled'] as const

export const ListRunsQuery = Type.Object(
  {
    ...pageQuery,
    status: optional(oneWord(spelled(RUN_STATUSES), 'Only runs of this status.')),
    state: optional(oneWord(spelled(RUN_STATES), 'Only runs in this state.')),
    statusReason: optional(oneWord(STATUS_REASONS, 'Only runs with this reason.')),
    agent: optional(label('Only runs of this agent, by id or slug.')),
    tenantId: optional(label('Only runs for this tenant.')),
    tenantUserId: optional(label('Only runs for this user of a tenant.')),
    projectId: optional(label('Only runs of this project.')),
    createdAfter: optional(moment('Only runs created at or after this time.')),
    createdBefore: optional(moment('Only runs created before this time.')),
  },
  {
    additionalProperties: false,
    patternProperties: {
      [String.raw`^metadata\[[^\]]{1,255}\]$`]: text('Only runs whose metadata has this value.'),
    },
  },
)

export const EventEnvelope = named(
  'RunEvent',
  open(
    {
      id: idOf('evt', 'The event.'),
      type: text(
        'What happened, such as `run.completed`. More types may be added; pass over what you do not know.',
      ),
      createdAt: moment('When it happened.'),
      mode,
      runId: idOf('run', 'Whose event it is.'),
      seq: count('Its place in the run: from 1, without gaps.', { minimum: 1 }),
      data: jsonObject('What the event says; the same for every reader.'),
    },
    'One entry of a run’s log; it never changes.',
  ),
)

export const EventPage = open({
  data: list(EventEnvelope, 'Oldest first.'),
  nextCursor: nullable(text('The `after` of the next page; null when there is no more yet.')),
})

export const ListEventsQuery = closed({
  after: optional({ ...count('Only events with a higher `seq`.'), default: 0 }),
  limit: optional({ ...count('Events per page.', { minimum: 1, maximum: 100 }), default: 20 }),
})

export const Artifact = named(
  'Artifact',
  open(
    {
      name: text('Its name within the run.'),
      contentType: text('What it holds.'),
      sizeBytes: count('Its size.'),
      sha256: text('SHA-256 of its bytes, in hex; also its ETag.'),
      createdAt: moment('When it was stored.'),
      url: text('Where it is, below this server.'),
    },
    'A file the run left behind: diff, log, gate report, transcript.',
  ),
)

export const nullableError = nullableObject(
  PublicError,
  'Why the newest run failed or was canceled, else null.',
)
