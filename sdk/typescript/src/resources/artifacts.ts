import { listPages, segment } from '../list.ts'
import type { PagePromise } from '../page.ts'
import type { RequestOptions, Transport } from '../transport.ts'
import type { Artifact, ListParams } from '../types.ts'

/** An artifact's content. */
export interface ArtifactContent {
  contentType: string
  bytes: Uint8Array
  /** The content read as UTF-8. */
  text(): string
}

export class Artifacts {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  list(runId: string, params: ListParams = {}, options?: RequestOptions): PagePromise<Artifact> {
    const path = `/v1/runs/${segment(runId)}/artifacts`
    return listPages(
      this.#transport,
      { path, query: params, read: (artifact: Artifact) => artifact },
      options,
    )
  }

  async get(runId: string, name: string, options?: RequestOptions): Promise<ArtifactContent> {
    const path = `/v1/runs/${segment(runId)}/artifacts/${segment(name)}`
    const { headers, body } = await this.#transport.send(
      { method: 'GET', path },
      { ...options, headers: { accept: '*/*', ...options?.headers } },
    )
    return {
      contentType: headers.get('content-type') ?? 'application/octet-stream',
      bytes: body,
      text: () => new TextDecoder().decode(body),
    }
  }
}
