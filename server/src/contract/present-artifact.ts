import type { RunId } from '../domain/facts.ts'
import { toIso } from '../lib/clock.ts'
import type { Artifact } from './run.ts'
import type { Static } from './schema.ts'

export interface StoredArtifact {
  name: string
  hash: string
  bytes: number
  mediaType: string
  createdAt: Date
}

export const presentArtifact = (runId: RunId, artifact: StoredArtifact): Static<typeof Artifact> => ({
  name: artifact.name,
  contentType: artifact.mediaType,
  sizeBytes: artifact.bytes,
  sha256: artifact.hash,
  createdAt: toIso(artifact.createdAt.getTime()),
  url: `/v1/runs/${runId}/artifacts/${encodeURIComponent(artifact.name)}`,
})
