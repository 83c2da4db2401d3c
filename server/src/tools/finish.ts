import type { ToolExecutor } from '../domain/tool-call.ts'
import { builtInTool, done } from './definition.ts'

/** Ends the iteration; the driver takes the summary as the output once the outcome is in. */
export const finishTool = (): ToolExecutor =>
  builtInTool({
    name: 'finish',
    description:
      'Says that the work is done. The summary tells in a few sentences what was changed and why; it becomes the description of the change.',
    effect: 'read',
    idempotent: true,
    properties: { summary: { type: 'string', minLength: 1, maxLength: 20_000 } },
    required: ['summary'],
    run: () => Promise.resolve(done('The work is handed over.')),
  })
