import { execFile } from 'node:child_process'
import { type JailOptions, openJails } from '../../jail/jail.ts'
import { type Finding, ok, problem, warning } from './finding.ts'
import { makeOpenFolder } from './folders.ts'

/** What is looked for, and where; a test names places where it is not. */
export interface Programs {
  /** Searched for git. */
  path: string
  bwrap: string
  python: string
}

interface Answer {
  works: boolean
  output: string
}

/** The first line of what a program says. */
const ask = (file: string, args: readonly string[], path?: string): Promise<Answer> =>
  new Promise((resolve) => {
    const env = { PATH: path ?? '/usr/bin:/bin' }
    execFile(file, args, { env, timeout: 10_000 }, (error, stdout, stderr) => {
      const output = (stdout || stderr || (error?.message ?? '')).trim().split('\n')[0] ?? ''
      resolve({ works: error === null, output })
    })
  })

export function examineNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) return ok('node', version)
  return problem('node', `${version} is too old`, 'Install Node 20.19 or newer: https://nodejs.org/')
}

export async function examineGit({ path }: Programs): Promise<Finding> {
  const { works, output } = await ask('git', ['--version'], path)
  if (works) return ok('git', output.replace('git version ', ''))
  return problem('git', 'there is none on PATH', 'Install it: apt-get install git')
}

export async function examinePython({ python }: Programs): Promise<Finding> {
  const name = 'python modules'
  const { works, output } = await ask(python, [
    '-c',
    'import sys, requests, flask; print("%d.%d with requests and flask" % sys.version_info[:2])',
  ])
  if (works) return ok(name, output)
  return warning(
    name,
    `${python} has not both requests and flask, which only the tests need`,
    'Install them: apt-get install python3-requests python3-flask',
  )
}

/** The program, the jail that starts with it, and each promise of that jail. */
export async function examineJail(
  { bwrap }: Programs,
  { preferred, baseUid }: Pick<JailOptions, 'preferred' | 'baseUid'>,
): Promise<Finding[]> {
  const { works, output } = await ask(bwrap, ['--version'])
  const program = works
    ? ok('bubblewrap', output.replace('bubblewrap ', ''))
    : (preferred === 'none' ? warning : problem)(
        'bubblewrap',
        `there is no working ${bwrap}`,
        'Install it: apt-get install bubblewrap',
      )
  await using folder = await makeOpenFolder()
  await using jails = await openJails({
    log: { info: () => undefined, warn: () => undefined },
    slots: 1,
    preferred,
    ...(baseUid !== undefined && { baseUid }),
    root: folder.path,
    bwrap,
  })
  const { jail, limits, summary } = jails.report
  const seen = `${jail === 'bubblewrap' ? summary.replace(/^jail: /, '') : summary} (${limits})`
  const standing =
    jail === 'bubblewrap'
      ? ok('jail', seen)
      : (jail === 'none' ? warning : problem)('jail', seen, 'Work that is not trusted needs bubblewrap.')
  const promises = (await jails.probe()).map(({ name, holds, text }) =>
    (holds ? ok : warning)(`jail: ${name}`, text),
  )
  return [program, standing, ...promises]
}
