import type { Logger } from 'pino'
import type { SetupLimits } from './conduct/setup-phase.ts'
import type { FirstSecrets } from './founding.ts'
import type { Backoff } from './lib/backoff.ts'
import type { Clock } from './lib/clock.ts'
import type { Statfs } from './storage/disk.ts'

/** What a test may replace. */
export interface Effects {
  log: Logger
  /** A race point of crash tests, of a run where it is of one. */
  pause: (name: string, runId?: string) => Promise<void>
  /** In [0, 1). */
  random: () => number
  /** Test servers end with their parent, so that a killed test leaves nothing behind. */
  lifetime: 'adoptable' | 'with-parent'
  /** Time other than the database's. */
  clock?: Clock
  /** Waits between two tries of a model call. */
  modelRetry?: Backoff
  /** How patient the setup phase is. */
  setupLimits?: SetupLimits
  /** How full the disk is; asked of the data folder. */
  statfs?: Statfs
  /** Called when they have been made, so that a start that fails later does not lose them. */
  onFirstSecrets?: (secrets: FirstSecrets) => void
  /** Whether the end was asked for while the start is still under way: it waits for nothing any more. */
  isStopping?: () => boolean
  /** Called for every line of draft text. */
  onDraft?: (runId: string, text: string) => void
}
