import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { GatePlan } from '../../../sdk/typescript/src/index.ts'
import { expectFailure } from '../harness/cases.ts'
import { ANSWER, type Arena, lackingJail, startArena } from './arena.ts'
import { npmTarball, type PackageRegistry, startPackageRegistry } from './package-registry.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const PACKUMENT = 'GET /word'
const TARBALL = 'GET /word/-/word-1.0.0.tgz'

describe.skipIf(lackingJail !== null)('packages that the setup phase installs', () => {
  let registry: PackageRegistry
  let arena: Arena
  beforeAll(async () => {
    registry = await startPackageRegistry('honest')
    arena = await startArena({ AGENTGATE_SETUP_HOSTS: registry.host }, [], {
      setupLimits: { commandMs: 60_000, silenceMs: 3_000 },
    })
  })
  beforeEach(() => registry.asked.splice(0))
  afterAll(async () => {
    await arena?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  const npmFiles = (): Record<string, string> => ({
    'package.json': JSON.stringify({ name: 'says', version: '1.0.0', dependencies: { word: '1.0.0' } }),
    '.npmrc': `registry=${registry.url}/\nfetch-retries=0\n`,
  })
  const NPM: GatePlan = {
    setup: ['npm install --ignore-scripts --no-package-lock --no-audit --no-fund'],
    gates: [
      {
        name: 'says',
        level: 'L1',
        check: { type: 'command', run: 'node -p "require(\'word\')" | grep -x honest' },
      },
    ],
  }
  const PASSED = { state: 'completed', verification: 'passed' }
  const order = (gatePlan: GatePlan) => ({ steps: ANSWER, order: { gatePlan } })
  /** What the gateway keeps for later setups. */
  const kept = (): string[] =>
    readdirSync(join(arena.root, 'packages'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))

  test('are asked for once: the gates and later runs of the repository get them from the cache', async () => {
    const repository = await arena.repository(npmFiles())
    const first = await arena.try({ repository, ...order(NPM) })
    expect(first.run).toMatchObject(PASSED)
    expect(registry.asked).toEqual([PACKUMENT, TARBALL])
    expect(first.artifacts.get('setup-1.log')).toContain('Answers from the cache of packages: 2')

    const second = await arena.try({ repository, ...order(NPM) })
    expect(second.run).toMatchObject(PASSED)
    expect(registry.asked).toEqual([PACKUMENT, TARBALL])
    expect(second.artifacts.get('setup.log')).toContain('Answers from the cache of packages: 2')
  })

  test('are not shared with another repository', async () => {
    expect((await arena.try({ files: npmFiles(), ...order(NPM) })).run).toMatchObject(PASSED)
    expect(registry.asked).toEqual([PACKUMENT, TARBALL])
  })

  test('are asked for again when what is kept was changed: it is never executed', async () => {
    const repository = await arena.repository(npmFiles())
    await arena.try({ repository, ...order(NPM) })
    registry.asked.splice(0)
    const evil = npmTarball('word', 'evil')
    const bodies = kept().filter((path) => path.includes('/bodies/') && statSync(path).size > 0)
    for (const path of bodies) writeFileSync(path, evil)
    const seen = await arena.try({ repository, ...order(NPM) })
    expect(seen.run).toMatchObject(PASSED)
    expect(seen.text).not.toContain('evil')
    expect(registry.asked).toEqual([PACKUMENT, TARBALL])
  })

  test('cannot be swapped by a run that came before: nothing it sends changes what is kept', async () => {
    const repository = await arena.repository(npmFiles())
    const ask = (more: string): string =>
      `curl -sS ${more} -H 'x-forwarded-host: evil.example' -H 'accept: */*' ${registry.url}/word >&2`
    const attack = [
      ask(''),
      ask("-H 'range: bytes=0-9'"),
      ask("-H 'authorization: Bearer x'"),
      `curl -sS -X PUT -d '{"name":"word"}' ${registry.url}/word`,
      `curl -sS ${registry.url}/word -H 'accept: application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*' -H 'x-forwarded-host: evil.example'`,
      "ls -la /run/agentgate /packages 2>&1; find / -path /proc -prune -o -name 'bodie[s]' -print 2>/dev/null",
    ]
    const poisoner = await arena.try({ repository, ...order({ gates: [], setup: [attack.join('; ')] }) })
    expect(poisoner.artifacts.get('setup.log')).not.toContain('bodies')
    const victim = await arena.try({ repository, ...order(NPM) })
    expect(victim.run).toMatchObject(PASSED)
    expect(victim.artifacts.get('setup.log')).not.toContain('evil.example')
  })

  test('of Python come through the same way', async () => {
    const files = {
      'requirements.txt': `--index-url ${registry.url}/simple\n--trusted-host 127.0.0.2\nword==1.0.0\n`,
    }
    const gatePlan: GatePlan = {
      setup: [
        'python3 -m pip install --quiet --disable-pip-version-check --target .agentgate/python -r requirements.txt',
      ],
      gates: [
        {
          name: 'says',
          level: 'L1',
          check: {
            type: 'command',
            run: 'PYTHONPATH=.agentgate/python python3 -c "import word; print(word.WORD)" | grep -x honest',
          },
        },
      ],
    }
    const repository = await arena.repository(files)
    for (const _ of [1, 2]) {
      const seen = await arena.try({ repository, ...order(gatePlan) })
      expect(seen.run).toMatchObject(PASSED)
      expect(registry.asked).toEqual(['GET /simple/word/', 'GET /files/word-1.0.0-py3-none-any.whl'])
    }
  })

  test('that a registry does not give end the run with what was said, and a failure is not kept', async () => {
    const repository = await arena.repository(npmFiles())
    registry.broken.add('word')
    const broken = await arena.try({ repository, ...order(NPM) })
    registry.broken.clear()
    expect(broken.run).toMatchObject({ state: 'failed', statusReason: 'workspace_failed' })
    expect(broken.run.error?.details?.['output']).toMatch(/500/)
    expect((await arena.try({ repository, ...order(NPM) })).run).toMatchObject(PASSED)
  })

  test('that a registry leaves without an answer end the run with its name, and it may be retried', async () => {
    const repository = await arena.repository(npmFiles())
    registry.pace = 'silent'
    const silent = await arena.try({ repository, ...order(NPM) })
    registry.pace = 'quick'
    expectFailure(silent.run, {
      reason: 'workspace_failed',
      stage: 'workspace',
      says: new RegExp(`failed \\(exit code 1\\): ${registry.host} did not answer in time`),
      retryable: true,
    })
    expect(silent.run.error?.details).toMatchObject({ slowHosts: [registry.host], refusedHosts: [] })
    expect(silent.artifacts.get('setup.log')).toMatch(/504[\s\S]*Silent hosts: 127\.0\.0\.2/)
    const again = await arena.see((await arena.here.gate.testClient.runs.retry(silent.run.id)).id)
    expect(again.run).toMatchObject(PASSED)
    await arena.expectNoRemains()
  })

  test('from elsewhere are refused, and the log names the host also when the command went on', async () => {
    const setup = [`npm view word --registry http://elsewhere.example/ --fetch-retries=0 || true`]
    const seen = await arena.try(order({ gates: [], setup }))
    expect(seen.artifacts.get('setup.log')).toContain('Refused hosts: elsewhere.example:80')
  })

  test('leave nothing behind but the cache, which only the server can enter', async () => {
    await arena.expectNoRemains()
    expect(kept().filter((path) => path.endsWith('.new'))).toEqual([])
    expect(statSync(join(arena.root, 'packages')).mode & 0o077).toBe(0)
  })
})

describe.skipIf(lackingJail !== null)('packages that a registry drips out', () => {
  let registry: PackageRegistry
  let arena: Arena
  beforeAll(async () => {
    registry = await startPackageRegistry('honest')
    registry.pace = 'dripping'
    arena = await startArena({ AGENTGATE_SETUP_HOSTS: registry.host }, [], {
      setupLimits: { commandMs: 5_000, silenceMs: 3_000 },
    })
  })
  afterAll(async () => {
    await arena?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })
  const plan = (): GatePlan => ({ gates: [], setup: [`curl -sS ${registry.url}/word -o word`] })

  test('end the run at the limit of the setup, with the name of the registry', async () => {
    const { run } = await arena.try({ order: { gatePlan: plan() } })
    expectFailure(run, {
      reason: 'workspace_failed',
      stage: 'workspace',
      says: new RegExp(`it took longer than 5 s\\): ${registry.host} did not answer in time`),
      retryable: true,
    })
    expect(run.error?.details).toMatchObject({ slowHosts: [registry.host] })
    expect(run.timing.durationMs).toBeLessThan(20_000)
  })

  test('end it as limit_time where the run may not take so long, and the command is killed', async () => {
    const constraints = { maxDurationSeconds: 2 }
    const { run, events } = await arena.try({ order: { gatePlan: plan(), constraints } })
    expectFailure(run, { reason: 'limit_time', stage: 'workspace', says: /2 seconds/ })
    expect(events.at(-1)).toMatchObject({ type: 'run.failed', data: { stopped: { how: 'killed' } } })
  })
})

describe.skipIf(lackingJail !== null)('a setup phase that is turned off', () => {
  test('is said so in its log, and nothing is installed', async () => {
    await using arena = await startArena({ AGENTGATE_SETUP_HOSTS: "''" })
    const setup = ['touch installed']
    const check = { type: 'command', run: 'test ! -e installed' } as const
    const gates = [{ name: 'check', level: 'L1', check } as const]
    const seen = await arena.try({ steps: ANSWER, order: { gatePlan: { setup, gates } } })
    expect(seen.run).toMatchObject({ state: 'completed', verification: 'passed' })
    expect(seen.artifacts.get('setup.log')).toMatch(/is off \(AGENTGATE_SETUP_HOSTS\)[\s\S]*touch installed/)
  })
})
