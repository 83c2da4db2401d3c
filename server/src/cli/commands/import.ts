import type { Command } from 'commander'
import type { Context } from '../context.ts'

export function addImport(program: Command, context: Context): void {
  program
    .command('import <file>')
    .description('read an export into a database without runs, all of it or nothing')
    .action((file: string) =>
      context.run(async () => (await import('../import.ts')).importFrom(context, file)),
    )
}
