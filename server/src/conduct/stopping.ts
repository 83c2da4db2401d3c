import type { HeldRun } from '../domain/performer.ts'
import type { JailSlot } from '../jail/command.ts'

/** The slot as work on the run uses it: the holder is told of each command that had to be killed for work to stop. */
export const tellingKills = (slot: JailSlot, held: HeldRun): JailSlot => ({
  ...slot,
  async run(command) {
    const result = await slot.run(command)
    if (held.signal.aborted && result.outcome === 'canceled' && result.killed) held.noteKilled()
    return result
  },
})
