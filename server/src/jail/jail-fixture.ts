/** Jails for the tests of this room: real ones, on a folder that is removed afterwards. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type JailedCommand,
  type JailOptions,
  type JailResult,
  type JailSlot,
  type Jails,
  openJails,
} from './jail.ts'

export const silentLog = { info: () => undefined, warn: () => undefined }

export interface JailFixture extends AsyncDisposable {
  root: string
  workspace: string
  jails: Jails
  slot: JailSlot
  /** Runs a shell script in the workspace, which belongs to the slot. */
  sh(script: string, options?: Partial<JailedCommand>): Promise<JailResult>
}

/** A folder that every uid can enter. */
export function openFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'agentgate-jail-'))
  chmodSync(folder, 0o711)
  return folder
}

export async function openFixture(options: Partial<JailOptions> = {}): Promise<JailFixture> {
  const root = openFolder()
  const workspace = join(root, 'workspace')
  mkdirSync(workspace)
  const jails = await openJails({ log: silentLog, slots: 1, preferred: 'bubblewrap', root, ...options })
  const slot = await jails.acquireSlot()
  await slot.own(workspace)
  return {
    root,
    workspace,
    jails,
    slot,
    sh: (script, more = {}) =>
      slot.run({
        argv: ['/bin/sh', '-c', script],
        workspace,
        timeoutMs: 20_000,
        maxOutputBytes: 20_000,
        signal: new AbortController().signal,
        ...more,
      }),
    async [Symbol.asyncDispose]() {
      await jails[Symbol.asyncDispose]()
      rmSync(root, { recursive: true, force: true })
    },
  }
}
