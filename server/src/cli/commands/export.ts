import type { Command } from 'commander'
import type { Context } from '../context.ts'

export function addExport(program: Command, context: Context): void {
  program
    .command('export <file>')
    .description('write everything as of now to one file, while the gateway may go on working')
    .action((file: string) => context.run(async () => (await import('../export.ts')).exportTo(context, file)))
}
