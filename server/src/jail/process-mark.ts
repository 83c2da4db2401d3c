import { readFileSync } from 'node:fs'

/** `<pid>-<start time>` of a process: names what belongs to it for as long as it lives, also if its pid is used again. */
export const processMark = (pid: number = process.pid): string => `${pid}-${startTicks(pid) ?? 0}`

/** Whether a name that begins with a mark belongs to a process that is gone. */
export function isStale(name: string): boolean {
  const match = /^(\d+)-(\d+)(-|$)/.exec(name)
  if (match === null) return false
  return String(startTicks(Number(match[1])) ?? 0) !== match[2]
}

/** When a process started, in clock ticks since boot; nothing when there is no such process, or only its corpse. */
export function startTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is a name in parentheses that may contain anything, also parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19])
  } catch {
    return undefined
  }
}
