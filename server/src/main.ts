/** Argv in, exit code out. */
import { runCommandLine } from './cli/program.ts'
import { processEnvironment } from './config.ts'

process.exit(await runCommandLine(process.argv.slice(2), process, processEnvironment()))
