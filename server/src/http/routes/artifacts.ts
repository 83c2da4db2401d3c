import { Readable } from 'node:stream'
import { presentArtifact } from '../../contract/present-artifact.ts'
import { notFound } from '../../domain/error.ts'
import { type ArtifactRow, findArtifact, listArtifacts } from '../../storage/artifacts.ts'
import { readBlobStream } from '../../storage/blobs.ts'
import type { Gateway } from '../gateway.ts'
import type { Handlers } from '../handler.ts'
import { pageAnswer, pageAsk } from '../paging.ts'
import { getRun } from './runs.ts'

export function artifactRoutes(gateway: Gateway): Pick<Handlers, 'listArtifacts' | 'getArtifact'> {
  return {
    async listArtifacts({ caller, params, query }) {
      const { facts } = await getRun(gateway, caller, params.id)
      const ask = pageAsk(query)
      const page = await listArtifacts(gateway.db, facts.id, ask)
      return { status: 200, body: pageAnswer(page, ask, (artifact) => presentArtifact(facts.id, artifact)) }
    },

    async getArtifact({ caller, params }) {
      const { facts } = await getRun(gateway, caller, params.id)
      const artifact = await findArtifact(gateway.db, facts.id, params.name)
      if (artifact === undefined) throw notFound(`Artifact ${params.name} of run ${facts.id}`)
      const body = Readable.from(readBlobStream(gateway.db, artifact.hash), { objectMode: false })
      return { status: 200, body, headers: artifactHeaders(artifact) }
    },
  }
}

const TEXT_TYPES = /^(?:text\/(?:plain|markdown|x-diff|csv)|application\/(?:json|x-ndjson))(?:;|$)/

/** Made by an agent, so never shown as a page: a browser saves it, and could run nothing in it if it did not. */
function artifactHeaders({ name, hash, bytes, mediaType }: ArtifactRow): Record<string, string> {
  const asciiName = name.replace(/[^A-Za-z0-9._-]/g, '_')
  const [type] = mediaType.split(';')
  return {
    'content-type': TEXT_TYPES.test(mediaType) ? `${type}; charset=utf-8` : 'application/octet-stream',
    'content-length': String(bytes),
    'content-disposition': `attachment; filename="${asciiName}"; filename*=UTF-8''${encodeRfc8187(name)}`,
    'content-security-policy': "sandbox; default-src 'none'",
    etag: `"${hash}"`,
  }
}

const encodeRfc8187 = (text: string): string =>
  encodeURIComponent(text).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
