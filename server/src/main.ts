/** Argv in, exit code out. */
import { runCommandLine } from './cli/program.ts'
import { processEnvironment } from './config.ts'

// What must not be read by others is made so where it is made; a shell's mask would keep jails from the rest.
process.umask(0o022)
process.exit(await runCommandLine(process.argv.slice(2), process, processEnvironment()))
