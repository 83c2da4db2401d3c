import type { JsonObject } from '../server/src/domain/json.ts'
import type { ModelScript, ModelStep } from './model-server.ts'

/** A bug with its place, a repair that does not hold and one that does. */
export interface Repair {
  file: string
  bug: string
  wrong: string
  right: string
  /** Shell command that runs the tests. */
  test: string
}

const calls = (text: string, tool: string, args: JsonObject): ModelStep => ({
  text,
  calls: [{ tool, arguments: args }],
})

/**
 * A model that repairs the bug in two goes: it looks around, runs the tests and makes the wrong edit; when the
 * gates have answered (any text of the user after the prompt), it reads again and makes the right one.
 */
export function repairScript(repair: Repair): ModelScript {
  const edit = (from: string, to: string): JsonObject => ({ path: repair.file, oldText: from, newText: to })
  const first: ModelStep[] = [
    calls('Let me see what is here.', 'list_files', {}),
    calls('The bug is probably in here.', 'read_file', { path: repair.file }),
    calls('What do the tests say?', 'run_command', { command: repair.test }),
    calls('This should do it.', 'edit_file', edit(repair.bug, repair.wrong)),
    calls('Done.', 'finish', { summary: `Changed ${repair.file}.` }),
  ]
  const second: ModelStep[] = [
    calls('The gates disagree. I look again.', 'read_file', { path: repair.file }),
    calls('Now I see it.', 'edit_file', edit(repair.wrong, repair.right)),
    calls('Do the tests pass now?', 'run_command', { command: repair.test }),
    calls('They do.', 'finish', { summary: `Repaired ${repair.file}; the tests pass.` }),
  ]
  return (request) => {
    const before = request.assistantTurns - request.turnsSinceUser
    const steps = before === 0 ? first : second
    return steps[request.turnsSinceUser] ?? { text: 'Nothing is left to do.' }
  }
}
