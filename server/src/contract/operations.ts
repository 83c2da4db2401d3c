import { list, named, oneWord, open, optional, text } from './schema.ts'

export const Health = named('Health', open({ status: oneWord(['ok'], 'The process answers.') }))

export const Readiness = named(
  'Readiness',
  open({
    status: oneWord(
      ['ready', 'starting', 'draining', 'database_unavailable'],
      'Whether it takes work, or why not.',
    ),
    warnings: optional(
      list(text('A sentence.'), 'What an operator should know, such as a database that may lose commits.'),
    ),
  }),
)

export const Version = named(
  'Version',
  open({ version: text('The version of this server.'), node: text('The version of Node.js it runs on.') }),
)
