/**
 * A process that supervises an embedded PostgreSQL, for tests that kill it: `supervisor.ts <dataDir> <lifetime>`.
 * Prints one line of JSON per event; stops in order when its input ends.
 */
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'

const [dataDir = '', lifetime = ''] = process.argv.slice(2)
const say = (event: object): boolean => process.stdout.write(`${JSON.stringify(event)}\n`)

try {
  const postgres = await startEmbeddedPostgres({
    dataDir,
    lifetime: lifetime === 'with-parent' ? 'with-parent' : 'adoptable',
    log: (line) => say({ line }),
  })
  const { connection, version, adopted, pid } = postgres
  say({ connection, version, adopted, pid })
  process.stdin.resume().once('end', () => {
    void postgres.stop().then(() => say({ stopped: true }))
  })
} catch (error) {
  say({ refusal: error })
}
