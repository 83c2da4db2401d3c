import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ANSWER, type Arena, lackingJail, type Seen, startArena } from './arena.ts'
import { type RawEntry, type RawRepository, rawRepository } from './raw-git.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const TRAP = '/var/tmp/agentgate-hostile-checkout'

describe.skipIf(lackingJail !== null)('a repository that no git would make', () => {
  let arena: Arena
  let made = 0
  beforeAll(async () => {
    arena = await startArena({ AGENTGATE_DISK_LIMIT_MB: '20' })
  })
  afterAll(() => arena?.[Symbol.asyncDispose]())

  /** An order on a repository whose only commit has this tree. */
  async function tryTree(plant: (raw: RawRepository) => Promise<string>): Promise<Seen> {
    const { host } = arena.here
    const name = `raw${++made}`
    const { url } = await host.createRepository({ owner: 'acme', name })
    const raw = rawRepository(host.repository(`acme/${name}`).folder)
    await raw.commit(await plant(raw))
    return arena.see(await arena.submit({ repository: url, steps: ANSWER }))
  }

  test.each([
    '.git/config',
    '.GIT/config',
    'a/.git/hooks/post-checkout',
    '../escape',
    '.git\u200c/config',
    'git~1/config',
  ])('with the path %j is not checked out', async (path) => {
    const seen = await tryTree(async (raw) => {
      let id = await raw.blob(`[core]\n\tfsmonitor = touch ${TRAP}\n`)
      for (const [at, name] of path.split('/').toReversed().entries())
        id = await raw.tree([{ mode: at === 0 ? '100755' : '40000', name, id }])
      return id
    })
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'workspace_failed', usage: { steps: 0 } })
    expect(seen.run.error?.message).toMatch(/cannot be written here/)
    expect(existsSync(TRAP)).toBe(false)
  })

  test('whose commit names a tree that is not there ends as a failure of the source', async () => {
    const seen = await tryTree(async (raw) =>
      raw.tree([{ mode: '40000', name: 'gone', id: 'c0ffee'.padEnd(40, '0') }]),
    )
    expect(seen.run.state).toBe('failed')
    expect(seen.run.statusReason).toMatch(/^(source_invalid|source_unavailable|workspace_failed)$/)
  })

  // Known gap: the pack is limited, what it expands to is not.
  test('of 60 MB in a pack of 60 kB is refused as disk_limit', async () => {
    const seen = await tryTree(async (raw) =>
      raw.tree([{ mode: '100644', name: 'zeros', id: await raw.blob(Buffer.alloc(60_000_000)) }]),
    )
    expect(seen.run).toMatchObject({ state: 'failed', statusReason: 'disk_limit' })
  })

  // Known gap, as above: six levels more would be ten thousand million files.
  test('of 10,000 files in six objects is refused', async () => {
    const seen = await tryTree(async (raw) => {
      const ten = (mode: RawEntry['mode'], id: string): RawEntry[] =>
        Array.from({ length: 10 }, (_, n) => ({ mode, name: `n${n}`, id }))
      let tree = await raw.tree(ten('100644', await raw.blob('x')))
      for (let depth = 0; depth < 3; depth++) tree = await raw.tree(ten('40000', tree))
      return tree
    })
    expect(seen.run.state).toBe('failed')
  })

  // Known gap: the folder of a checkout that failed stays until the next start.
  test('leaves nothing behind', () => arena.expectNoRemains())
})
