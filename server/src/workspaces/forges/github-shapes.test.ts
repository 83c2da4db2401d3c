import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { Secret } from '../../lib/secret.ts'
import { failureOf, hostSource } from '../hosted-source.fixture.ts'
import { GitHubForge } from './github-forge.ts'

/** What our forge asks of GitHub, by the names of GitHub's published description of its API. */
const OPERATIONS = [
  ['GET', /^$/, '/repos/{owner}/{repo}'],
  ['GET', /^\/git\/ref\/.+$/, '/repos/{owner}/{repo}/git/ref/{ref}'],
  ['GET', /^\/pulls$/, '/repos/{owner}/{repo}/pulls'],
  ['POST', /^\/pulls$/, '/repos/{owner}/{repo}/pulls'],
  [
    'POST',
    /^\/pulls\/\d+\/requested_reviewers$/,
    '/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers',
  ],
  ['POST', /^\/issues\/\d+\/labels$/, '/repos/{owner}/{repo}/issues/{issue_number}/labels'],
  ['POST', /^\/issues\/\d+\/comments$/, '/repos/{owner}/{repo}/issues/{issue_number}/comments'],
  ['POST', /^\/statuses\/[0-9a-f]{40}$/, '/repos/{owner}/{repo}/statuses/{sha}'],
] as const

interface Exchange {
  method: string
  path: string
  query: Record<string, string>
  body: unknown
  status: number
  answer: unknown
}

/** Asks everything once, and some of it in vain. */
async function recordExchanges(): Promise<Exchange[]> {
  await using source = await hostSource()
  const workspace = await source.open('run_1')
  await writeFile(join(workspace.tree, 'README.md'), 'changed\n')
  const { commit } = await workspace.seal('Change', 0)
  await workspace.push({ commit, branch: 'change' })
  const exchanges: Exchange[] = []
  const recording: typeof fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input)
    const answer = await fetch(input, init)
    const body = typeof init?.body === 'string' ? JSON.parse(init.body) : undefined
    exchanges.push({
      method: init?.method ?? 'GET',
      path: url.pathname.replace('/api/v3/repos/acme/shop', ''),
      query: Object.fromEntries(url.searchParams),
      body,
      status: answer.status,
      answer: await answer.clone().json(),
    })
    return answer
  }
  const { apiBaseUrl, token } = source.access
  const forge = new GitHubForge({
    apiBaseUrl,
    token: new Secret(token),
    owner: 'acme',
    name: 'shop',
    fetch: recording,
    backoff: { firstMs: 1, factor: 1, maxMs: 1 },
  })
  const draft = {
    title: 'Fix',
    body: 'Body',
    head: 'change',
    base: 'main',
    draft: true,
    labels: ['bot'],
    reviewers: ['ada'],
  }
  await forge.repository()
  await forge.branchHead('change')
  await forge.branchHead('nowhere')
  const { number } = await forge.createPullRequest(draft)
  await forge.createPullRequest(draft)
  await failureOf(forge.createPullRequest({ ...draft, head: 'nowhere' }))
  await forge.comment(number, 'Well done.')
  await forge.setStatus(commit, {
    state: 'success',
    context: 'agentgate',
    description: 'All gates passed.',
    targetUrl: 'https://gate.example/v1/runs/run_1',
  })
  return exchanges
}

/** The exchanges as constants of the published types: a compiler knows best whether a value has a type. */
function asSource(exchanges: readonly Exchange[]): string {
  const lines = exchanges.flatMap(({ method, path, query, body, status, answer }, at) => {
    const name = OPERATIONS.find(([verb, form]) => verb === method && form.test(path))?.[2]
    if (name === undefined) throw new Error(`${method} ${path} is no known operation`)
    const place = `'${name}', '${method.toLowerCase()}'`
    const told = JSON.stringify({ status, body: answer })
    return [
      ...(body === undefined ? [] : [`export const asked${at}: Asked<${place}> = ${JSON.stringify(body)}`]),
      `export const query${at}: Query<${place}> = ${JSON.stringify(numbersIn(query))}`,
      `export const told${at}: Told<${place}> = ${told}`,
    ]
  })
  return [
    "import type { paths } from '@octokit/openapi-types'",
    "import type { Asked, Told } from './github-answers.ts'",
    'type Query<P extends keyof paths, M extends keyof paths[P]> =',
    '  paths[P][M] extends { parameters: { query?: infer Q } } ? Q : Record<string, never>',
    ...lines,
  ].join('\n')
}

/** A query is text on the wire, whatever it stands for. */
const numbersIn = (query: Record<string, string>): Record<string, string | number> =>
  Object.fromEntries(
    Object.entries(query).map(([name, value]) => [name, /^\d+$/.test(value) ? Number(value) : value]),
  )

const FILE = fileURLToPath(new URL('../../../../demo/recorded-exchanges.ts', import.meta.url))

/** The published types are five megabytes: read once. */
const parsed = new Map<string, ts.SourceFile>()

/** What the compiler has to say about a file that is not there. */
function complaintsAbout(source: string): string[] {
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    allowImportingTsExtensions: true,
    types: ['node'],
  }
  const disk = ts.createCompilerHost(options)
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (name) => name === FILE || disk.fileExists(name),
    readFile: (name) => (name === FILE ? source : disk.readFile(name)),
    getSourceFile(name, ...rest) {
      if (name === FILE) return ts.createSourceFile(name, source, ts.ScriptTarget.ES2023)
      const file = parsed.get(name) ?? disk.getSourceFile(name, ...rest)
      if (file !== undefined) parsed.set(name, file)
      return file
    },
  }
  const program = ts.createProgram([FILE], options, host)
  const file = program.getSourceFile(FILE)
  return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map(
    ({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '),
  )
}

test('what the forge asks and the loopback host answers has the shapes that GitHub publishes', async () => {
  const exchanges = await recordExchanges()
  const used = OPERATIONS.filter(([verb, form]) =>
    exchanges.some(({ method, path }) => method === verb && form.test(path)),
  )
  expect(used).toHaveLength(OPERATIONS.length)
  expect(exchanges.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
    200, 200, 200, 200, 200, 201, 201, 201, 201, 201, 404, 422, 422,
  ])
  expect(complaintsAbout(asSource(exchanges))).toEqual([])

  const made = exchanges.filter(({ path, status }) => path === '/pulls' && status === 201)
  const changed = (change: (answer: Record<string, unknown>) => Partial<Exchange>): Exchange[] =>
    made.map((exchange) => ({ ...exchange, ...change({ ...(exchange.answer as object) }) })) // as the host makes it
  const wrong = [
    ...changed((answer) => ({ answer: Object.fromEntries(Object.entries(answer).slice(1)) })),
    ...changed((answer) => ({ answer: { ...answer, labels: ['bot'] } })),
    ...changed(() => ({ status: 200 })),
    ...changed(() => ({ body: { title: 'Fix', head: 'change', into: 'main' } })),
    ...changed(() => ({ body: { title: 'Fix', head: 'change', base: 'main', labels: ['bot'] } })),
  ]
  expect(complaintsAbout(asSource(wrong))).toHaveLength(5)
}, 120_000)
