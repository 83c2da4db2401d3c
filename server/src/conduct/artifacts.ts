import type { JournalEntry } from '../domain/agent.ts'
import type { RunId } from '../domain/facts.ts'
import { cleanJson } from '../lib/clean-json.ts'
import type { Clock } from '../lib/clock.ts'
import type { Clean } from '../lib/redact.ts'
import { putArtifact } from '../storage/artifacts.ts'
import { putBlob } from '../storage/blobs.ts'
import type { Database } from '../storage/database.ts'

export interface Artifact {
  name: string
  data: string | Uint8Array
  mediaType: string
}

/** Keeps what a run leaves behind for people; the same name again replaces it. */
export async function keepArtifact(
  { db, clock }: { db: Database; clock: Clock },
  runId: RunId,
  { name, data, mediaType }: Artifact,
): Promise<string> {
  const at = new Date(clock.now())
  const { hash, bytes } = await putBlob(db, data, { mediaType, at })
  await putArtifact(db, runId, { name, hash, bytes, mediaType, createdAt: at })
  return hash
}

/** The conversation as people read it: one JSON object a line, in order, without secrets. */
export function transcriptOf(journal: readonly JournalEntry[], clean: Clean): string {
  return journal.map((entry) => `${JSON.stringify(cleanJson(readable(entry), clean))}\n`).join('')
}

function readable(entry: JournalEntry): object {
  switch (entry.kind) {
    case 'step': {
      const { kind, step, iteration, text, usage } = entry
      const calls = entry.calls.map(({ id, name, arguments: args }) => ({
        toolCallId: id,
        name,
        arguments: args,
      }))
      return { kind, step, iteration, text, calls, usage }
    }
    case 'tool':
      return { kind: 'tool', step: entry.step, toolCallId: entry.callId, ...entry.outcome }
    case 'feedback':
      return entry
  }
}
