import type { TestProject } from 'vitest/node'
import { startTestServer } from './postgres.ts'

/** One PostgreSQL for the whole run; `AGENTGATE_TEST_DATABASE_URL` names another than the embedded one. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  // As the program does.
  process.umask(0o022)
  const [server, end] = await startTestServer(process.env.AGENTGATE_TEST_DATABASE_URL || undefined)
  project.provide('testServer', server)
  return end
}
