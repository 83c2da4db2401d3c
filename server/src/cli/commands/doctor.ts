import type { Command } from 'commander'
import { type Config, ConfigInvalid, type Environment, readConfig } from '../../config.ts'
import { type Context, type OutputOptions, print, withJson } from '../context.ts'
import { type Finding, problem } from '../doctor/finding.ts'
import { EXIT } from '../failure.ts'
import { plain, type Terminal, type Tone } from '../terminal.ts'

export function addDoctor(program: Command, context: Context): void {
  const command = program
    .command('doctor')
    .description('try what the gateway needs, and say what to do')
    .option('--verify', 'hold the database against the invariants instead')
  withJson(command).action((options: OutputOptions & { verify?: true }) =>
    context.run(async () => {
      const findings = await (options.verify ? verify : examine)(context.environment)
      const isWell = findings.every(({ standing }) => standing !== 'problem')
      print(
        context,
        { ok: isWell, findings },
        {
          json: options.json,
          lines: () => findings.flatMap((finding) => linesOf(context.terminal, finding)),
        },
      )
      return isWell ? EXIT.ok : EXIT.failed
    }),
  )
}

/** Every finding is made by trying; wrong settings are findings too, and leave nothing more to try. */
async function examine(environment: Environment): Promise<Finding[]> {
  const [programs, places, folders, { examineMasterKey }] = await Promise.all([
    import('../doctor/programs.ts'),
    import('../doctor/places.ts'),
    import('../doctor/folders.ts'),
    import('../doctor/master-key.ts'),
  ])
  const looked = { path: environment['PATH'] ?? '', bwrap: '/usr/bin/bwrap', python: '/usr/bin/python3' }
  const machine = [programs.examineNode(process.versions.node), await programs.examineGit(looked)]
  const config = readSettings(environment)
  if (!('dataDir' in config)) return [...machine, ...config]
  return [
    ...machine,
    ...(await programs.examineJail(looked, { preferred: config.jail, baseUid: config.jailUid })),
    await places.examineDatabase(config),
    await folders.examineDataFolder(config.dataDir),
    await examineMasterKey(config),
    await folders.examineDisk(config),
    await places.examinePort(config),
    places.examineProviders(config),
    await programs.examinePython(looked),
  ]
}

async function verify(environment: Environment): Promise<Finding[]> {
  const { examineInvariants } = await import('../doctor/ledger.ts')
  return examineInvariants(readConfig(environment))
}

function readSettings(environment: Environment): Config | Finding[] {
  try {
    return readConfig(environment)
  } catch (error) {
    if (!(error instanceof ConfigInvalid)) throw error
    return error.mistakes.map((mistake) => problem('settings', mistake, 'docs/config.md lists all settings.'))
  }
}

const MARKS = { ok: '✓', warning: '!', problem: '✗' } as const
const TONES = { ok: 'green', warning: 'yellow', problem: 'red' } as const satisfies Record<string, Tone>
const NAME_WIDTH = 29

function linesOf(terminal: Terminal, { name, standing, text, remedy }: Finding): string[] {
  const line = `${terminal.paint(TONES[standing], MARKS[standing])} ${name.padEnd(NAME_WIDTH)} ${plain(text)}`
  return remedy === undefined ? [line] : [line, `  ${''.padEnd(NAME_WIDTH)} ${plain(remedy)}`]
}
