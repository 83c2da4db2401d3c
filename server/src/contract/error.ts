import { ERROR_KINDS } from '../domain/error.ts'
import { flag, jsonObject, named, oneWord, open, optional, text } from './schema.ts'

const codes = Object.keys(ERROR_KINDS)

export const ErrorEnvelope = named(
  'Error',
  open(
    {
      error: open({
        code: oneWord(codes, 'What went wrong, for programs. Every code is explained in docs/errors.md.'),
        message: text('What went wrong, for people.'),
        details: jsonObject('Facts to act on; `errors[]{field, message}` for a request that is not valid.'),
        requestId: text('Name this when you ask for help.'),
        retryable: flag('Whether the same request may succeed later.'),
        hint: optional(text('One sentence that says what to do.')),
      }),
    },
    'The answer to a request that was refused.',
  ),
)

/** The same as RFC 9457 has it, for callers whose `Accept` names `application/problem+json`. */
export const Problem = named(
  'Problem',
  open({
    type: text('A URI reference for the code: `/docs#CODE`.'),
    title: text('The code.'),
    status: { ...jsonObject('The HTTP status.'), type: 'integer' },
    detail: text('What went wrong, for people.'),
    code: oneWord(codes, 'The code.'),
    details: jsonObject('Facts to act on.'),
    requestId: text('Name this when you ask for help.'),
    retryable: flag('Whether the same request may succeed later.'),
    hint: optional(text('One sentence that says what to do.')),
  }),
)
