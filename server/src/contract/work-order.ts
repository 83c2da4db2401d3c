import { RUN_STATUSES } from '../domain/lifecycle.ts'
import { callerFields, metadata, shownCallerFields } from './caller-fields.ts'
import { Constraints, ConstraintsRequest } from './constraints.ts'
import { pageQuery } from './page.ts'
import { agentField, mode, nullableError, Run, status, testField } from './run.ts'
import {
  anyJson,
  closed,
  count,
  flag,
  idOf,
  list,
  moment,
  named,
  nullable,
  nullableObject,
  oneWord,
  open,
  optional,
  Type,
  tagged,
  text,
} from './schema.ts'

/** A name git takes for a branch and that cannot be read as an option. */
const branchName = (description: string) =>
  Type.String({
    description,
    maxLength: 255,
    pattern: String.raw`^(?![-/.])(?!.*(?:\.\.|//|@\{|/\.))(?!.*(?:/|\.|\.lock)$)[^\x00-\x20\x7f~^:?*\[\\]+$`,
  })

const gitFields = {
  type: Type.Literal('git', { description: 'A git repository.' }),
  repository: text('Its http or https URL, without credentials: those go to `/v1/git-credentials`.', {
    minLength: 1,
    maxLength: 2000,
  }),
  branch: optional(branchName('Where to start; the repository’s default branch when absent.')),
  commit: optional(
    Type.String({ description: 'The full hash to start from.', pattern: '^(?:[0-9a-f]{40}|[0-9a-f]{64})$' }),
  ),
}

const deliveryFields = {
  mode: oneWord(['none', 'branch', 'pull_request'], 'How far the verified commit goes.'),
  base: optional(
    branchName('The branch the pull request is for; the one the work started from when absent.'),
  ),
  branch: optional(branchName('The branch to push; `agentgate/<run id>` when absent.')),
  title: optional(
    text('The title of the pull request and the subject of the commit.', { minLength: 1, maxLength: 250 }),
  ),
  draft: optional(flag('Open the pull request as a draft.')),
  labels: optional(
    list(text('A label.', { minLength: 1, maxLength: 100 }), 'Labels of the pull request.', { maxItems: 50 }),
  ),
  reviewers: optional(
    list(text('A login.', { minLength: 1, maxLength: 100 }), 'Who shall review it.', { maxItems: 50 }),
  ),
}

const gatePlan = anyJson(
  'How the result is verified: `default`, `strict`, `none`, or `{setup?, levels?, gates: [{name, level: L0|L1, check: ' +
    '{type: command, run} | {type: files, required} | {type: forbid, patterns?, paths?}, timeoutSeconds?, onFailure?: ' +
    'iterate|stop|escalate, maxAttempts?}]}`. When absent: the repository’s own plan or tooling.',
)

const taskPrompt = text('What to do, in plain words.', { minLength: 1, maxLength: 100_000 })
const maxIterations = count('Rounds of work and verification.', { minimum: 1, maximum: 100 })

const sourceType = {
  name: 'type',
  later: ['template', 'url'],
  description: 'Where the files come from. Only `git` today.',
}

export const CreateWorkOrderRequest = named(
  'CreateWorkOrderRequest',
  closed(
    {
      taskPrompt,
      workspaceSource: tagged(sourceType, [named('GitSourceRequest', closed(gitFields))]),
      agent: optional({ ...agentField, default: 'coder' }),
      maxIterations: optional({ ...maxIterations, default: 10 }),
      gatePlan: optional(gatePlan),
      delivery: optional(
        named(
          'DeliveryRequest',
          closed(
            deliveryFields,
            'When absent: a pull request where the host has a forge API, else a branch.',
          ),
        ),
      ),
      constraints: optional(ConstraintsRequest),
      ...callerFields,
      ...testField,
    },
    'Work for a coding agent on a repository. Creating it never touches the network.',
  ),
)

export const CreatedWorkOrder = named(
  'CreatedWorkOrder',
  open({
    workOrderId: idOf('wo', 'The work order.'),
    runId: idOf('run', 'Its first run.'),
    status,
    createdAt: moment('When it was created.'),
    metadata,
    run: optional(Run),
  }),
)

export const WorkOrder = named(
  'WorkOrder',
  open(
    {
      id: idOf('wo', 'The work order.'),
      mode,
      runId: idOf('run', 'Its newest run.'),
      runIds: list(idOf('run', 'A run.'), 'All of its runs, oldest first: the first and its retries.'),
      status,
      taskPrompt: text('As given.'),
      workspaceSource: named('GitSource', open(gitFields)),
      agent: text('The slug of the agent.'),
      maxIterations,
      gatePlan: anyJson('As given; null when the repository’s own tooling decides.'),
      delivery: nullableObject(named('Delivery', open(deliveryFields)), 'As given; null for the default.'),
      constraints: Constraints,
      webhookUrl: nullable(text('As given.')),
      ...shownCallerFields,
      prUrl: nullable(text('The pull request of the newest run.')),
      error: nullableError,
      createdAt: moment('When it was created.'),
    },
    'A client’s order, mirroring its newest run.',
  ),
)

export const ListWorkOrdersQuery = closed({
  ...pageQuery,
  status: optional(
    oneWord([...RUN_STATUSES, 'cancelled'] as const, 'Only orders whose newest run has this status.'),
  ),
})
