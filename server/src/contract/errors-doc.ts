import { ERROR_KINDS, type ErrorCode, type ErrorKind } from '../domain/error.ts'
import { ERROR_WORDS } from './error-words.ts'

const HEAD = `# Errors

Generated from the error table; do not edit.

Every refused request is answered with \`{"error": {"code", "message", "details", "requestId", "retryable", "hint"?}}\`,
or as RFC 9457 has it when \`Accept\` names \`application/problem+json\`. Programs should look at \`code\`; codes are never
renamed. \`details.errors[]\` lists every mistake of a request as \`{field, message}\`: \`field\` is a JSON pointer into the
body, or the name of a query parameter or header.

| Status | Code | Meaning | What to do |
| --- | --- | --- | --- |
`

/** The text of `docs/errors.md`. */
export function buildErrorsDoc(statusOf: Readonly<Record<ErrorKind, number>>): string {
  const rows = (Object.entries(ERROR_KINDS) as [ErrorCode, ErrorKind][]) // Object.entries widens the keys to string
    .map(([code, kind]) => ({ code, status: statusOf[kind], ...ERROR_WORDS[code] }))
    .map(({ code, status, meaning, remedy }) => `| ${status} | \`${code}\` | ${meaning} | ${remedy} |`)
  return `${HEAD}${rows.join('\n')}\n`
}
