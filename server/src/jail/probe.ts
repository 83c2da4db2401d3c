import { statSync } from 'node:fs'
import { join } from 'node:path'
import type {
  JailedCommand,
  JailFinding,
  JailReport,
  JailResult,
  JailSlot,
  LimitMechanism,
} from './command.ts'
import { syscallFilter } from './syscall-filter.ts'

/** Whether commands may run, and how. */
export type Standing =
  | { jail: 'bubblewrap'; disableUserns: boolean }
  | { jail: 'none' }
  | { jail: 'unavailable'; reason: string }

/** The strictest jail that starts here: bubblewrap before 0.8 cannot refuse user namespaces. */
export async function findStanding(run: (standing: Standing) => Promise<JailResult>): Promise<Standing> {
  let reason = ''
  for (const disableUserns of [true, false]) {
    const standing: Standing = { jail: 'bubblewrap', disableUserns }
    const result = await run(standing)
    if (result.outcome !== 'refused_to_start') return standing
    reason = result.reason
  }
  return { jail: 'unavailable', reason: withRemedy(reason.replace(/\.$/, '')) }
}

function withRemedy(reason: string): string {
  if (/ENOENT|failed to execute \S*bwrap/.test(reason)) {
    return 'bubblewrap is not installed; install bubblewrap (`apt-get install bubblewrap`)'
  }
  if (/namespace|Operation not permitted|uid map/.test(reason)) {
    return `${reason}; allow unprivileged user namespaces (kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0)`
  }
  return reason
}

const HELD_BY: Record<LimitMechanism, string> = {
  cgroup2: 'control groups (version 2) hold processes and memory',
  cgroup1: 'control groups (version 1) hold processes and memory',
  systemd: 'systemd scopes hold processes and memory',
  prlimit:
    'prlimit holds the number of processes and the memory of each single one; to hold the memory of all, run as root or under a systemd user session',
}

const DISK: Record<JailReport['disk'], string> = {
  measured: 'the disk that a command takes is measured while it runs',
  reserving_refused:
    'the disk that a command takes is measured while it runs, and reserving space without writing is refused',
}

export function describeStanding(standing: Standing, limits: LimitMechanism): JailReport {
  const disk =
    standing.jail === 'bubblewrap' && syscallFilter() !== undefined ? 'reserving_refused' : 'measured'
  const summary = {
    none: () => "no jail: untrusted work runs with the server's rights",
    unavailable: (reason: string) => `no jail is available, so untrusted work is refused: ${reason}`,
    bubblewrap: () => `jail: bubblewrap; ${HELD_BY[limits]}; ${DISK[disk]}`,
  }[standing.jail]
  return {
    jail: standing.jail,
    limits,
    disk,
    summary: summary(standing.jail === 'unavailable' ? standing.reason : ''),
  }
}

/** What a jail must stop. A script prints `through` when it was not stopped. */
const ATTEMPTS: { name: string; script: string; held: string; open: string }[] = [
  {
    name: 'network',
    script: 'test "$(grep -c : /proc/net/dev)" -gt 1 && echo through',
    held: 'no network inside',
    open: 'a network interface besides lo is visible inside',
  },
  {
    name: 'processes of the host',
    script: 'test "$(ls /proc | grep -c "^[0-9]")" -gt 9 && echo through',
    held: 'only its own processes are visible inside',
    open: 'processes of the host are visible inside',
  },
  {
    name: 'system',
    script: 'touch /usr/probe || touch /probe || touch /dev/probe && echo through',
    held: 'the system is read-only inside',
    open: 'the system can be written inside',
  },
  {
    name: 'user namespaces',
    script: 'unshare --user true && echo through',
    held: 'no further user namespaces inside',
    open: 'user namespaces can be made inside: install bubblewrap 0.8 or newer',
  },
  {
    name: 'temporary files',
    script: 'head -c 2000000 /dev/zero > /tmp/x && echo through',
    held: 'temporary folders are held at their size',
    open: 'temporary folders grow past their size',
  },
  {
    name: 'disk',
    script: 'for i in 1 2 3; do head -c 800000 /dev/zero > $i; done; sleep 9; echo through',
    held: 'a command that takes more of the disk than it may is stopped',
    open: 'the disk that a command takes is not held',
  },
  {
    name: 'reserving disk space',
    script: 'rm -f 1 2 3; fallocate --length 500000 reserved && echo through',
    held: 'disk space cannot be reserved without writing it',
    open: 'disk space can be reserved without writing it, faster than it is measured: there is no list of system calls for this kind of machine',
  },
  {
    name: 'number of processes',
    script: '(for i in $(seq 40); do sleep 9 & done) && echo through',
    held: 'the number of processes is held',
    open: 'the number of processes is not held: run as root, or on Linux 5.14 or newer',
  },
  {
    name: 'memory',
    script: 'head -c 90000000 /dev/zero | tail > /dev/null && echo through',
    held: 'memory is held',
    open: 'memory is not held',
  },
]

/** A command for trying things out, with limits that are quickly reached. */
export const tryCommand = (workspace: string, script: string): JailedCommand => ({
  argv: ['/bin/sh', '-c', script],
  workspace,
  timeoutMs: 15_000,
  maxOutputBytes: 2_000,
  limits: { processes: 24, memoryBytes: 48 * 2 ** 20, tmpBytes: 2 ** 20, diskBytes: 2 * 2 ** 20 },
  signal: new AbortController().signal,
})

/** Makes each attempt in the slot. An attempt that could not be made counts as not stopped. */
export async function probeJail(slot: JailSlot, workspace: string): Promise<JailFinding[]> {
  const findings: JailFinding[] = []
  for (const { name, script, held, open } of ATTEMPTS) {
    const result = await slot.run(tryCommand(workspace, script))
    const wasMade = ['exited', 'signaled', 'disk_limit'].includes(result.outcome)
    const holds = wasMade && !/^through$/m.test(result.output)
    findings.push({
      name,
      holds,
      text: holds ? held : wasMade ? open : `it could not be tried: ${result.outcome}`,
    })
  }
  return [...findings, await probeOwner(slot, workspace)]
}

async function probeOwner(slot: JailSlot, workspace: string): Promise<JailFinding> {
  await slot.run(tryCommand(workspace, 'touch mine'))
  const uid = statSync(join(workspace, 'mine'), { throwIfNoEntry: false })?.uid
  const holds = uid === slot.uid && uid !== 0
  const text =
    slot.uid === process.getuid?.()
      ? 'commands write files as the user of the server; run the server as root to give each slot a uid of its own'
      : `commands write files as uid ${slot.uid}, not as the server`
  return { name: 'owner of files', holds, text: holds ? text : `files of a command belong to uid ${uid}` }
}
