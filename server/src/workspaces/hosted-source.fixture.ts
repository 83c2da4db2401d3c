import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type GitHost,
  type NewRepository,
  type RepositoryAccess,
  startGitHost,
} from '../../../demo/git-host.ts'
import { Secret } from '../lib/secret.ts'
import type { Workspace } from './workspace.ts'
import { type CredentialRequest, Workspaces, type WorkspacesOptions } from './workspaces.ts'

/** A repository on a real git host on loopback, and the workspaces of a server that may reach it. */
export interface HostedSource extends AsyncDisposable {
  host: GitHost
  access: RepositoryAccess
  root: string
  workspaces: Workspaces
  /** Every credential that was asked for. */
  asked: CredentialRequest[]
  open(runId: string, more?: { branch?: string; commit?: string }): Promise<Workspace>
  /** A second server process on the same folder, or with other options. */
  another(options?: Partial<WorkspacesOptions>): Workspaces
}

export const FILES = {
  'README.md': '# Shop\n',
  'src/price.js': 'export const price = 1\n',
  '.gitignore': 'ignored/\n.env\n',
}

export async function hostSource(repository: Partial<NewRepository> = {}): Promise<HostedSource> {
  const host = await startGitHost()
  const access = await host.createRepository({
    owner: 'acme',
    name: 'shop',
    files: FILES,
    private: true,
    ...repository,
  })
  const root = await mkdtemp(join(tmpdir(), 'workspaces-'))
  const asked: CredentialRequest[] = []
  const another = (options: Partial<WorkspacesOptions> = {}) =>
    new Workspaces({
      root,
      gitBinary: 'git',
      allowedPrivateHosts: ['127.0.0.0/8'],
      diskLimitBytes: 50_000_000,
      async findCredential(request) {
        asked.push(request)
        return { username: 'x-access-token', password: new Secret(access.token) }
      },
      ...options,
    })
  const workspaces = another()
  return {
    host,
    access,
    root,
    workspaces,
    asked,
    another,
    open: (runId, more = {}) =>
      workspaces.open({ runId, organisation: 'org', repository: access.url, ...more }),
    async [Symbol.asyncDispose]() {
      await host.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

/** The reason a call failed for, with its sentence; anything but a named reason is thrown on. */
export async function failureOf(
  call: Promise<unknown>,
): Promise<{ reason: string; message: string; retryable: boolean }> {
  const error = await call.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof Error && 'reason' in error && 'retryable' in error)
    return { reason: String(error.reason), message: error.message, retryable: error.retryable === true }
  throw error
}
