import type { JournalEntry } from '../domain/agent.ts'
import type { Db } from './database.ts'

/** A run's journal in the order things happened, forgotten steps included. */
export async function readJournal(db: Db, runId: string): Promise<JournalEntry[]> {
  const rows = await db.query<{ record: string }>(
    { name: 'read_journal', text: 'select record from step where run_id = $1 order by n, part' },
    [runId],
  )
  return rows.map(({ record }): JournalEntry => JSON.parse(record))
}
