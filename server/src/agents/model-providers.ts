import type { LanguageModel } from 'ai'
import type { Secret } from '../lib/secret.ts'

export interface ProviderConfig {
  /** `openai` speaks Responses, `openai-chat` Chat Completions, `anthropic` Messages. */
  kind: 'openai' | 'openai-chat' | 'anthropic' | 'openai-compatible'
  /** Ends in `/v1` by custom; needed for `openai-compatible`, else the provider's own. */
  baseUrl?: string
  apiKey: Secret
}

/** The SDK takes 110 to 220 ms to load: only who asks a model waits for it. */
export async function loadModel(
  name: string,
  id: string,
  { fetch, ...config }: ProviderConfig & { fetch: typeof globalThis.fetch },
): Promise<LanguageModel> {
  const settings = {
    fetch,
    apiKey: config.apiKey.reveal(),
    ...(config.baseUrl !== undefined && { baseURL: config.baseUrl }),
  }
  switch (config.kind) {
    case 'openai': {
      const { createOpenAI } = await import('@ai-sdk/openai')
      return createOpenAI(settings).responses(id)
    }
    case 'openai-chat': {
      const { createOpenAI } = await import('@ai-sdk/openai')
      return createOpenAI(settings).chat(id)
    }
    case 'anthropic': {
      const { createAnthropic } = await import('@ai-sdk/anthropic')
      return createAnthropic(settings)(id)
    }
    case 'openai-compatible': {
      const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible')
      return createOpenAICompatible({ ...settings, name, baseURL: config.baseUrl ?? '', includeUsage: true })(
        id,
      )
    }
  }
}
