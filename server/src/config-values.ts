import type { ModelPrice, PriceBook } from './domain/money.ts'
import { MICRO_PER_CREDIT } from './domain/money.ts'
import type { Secret } from './lib/secret.ts'

export type ProviderKind = 'openai' | 'openai-chat' | 'anthropic' | 'openai-compatible'

export interface Provider {
  kind: ProviderKind
  apiKey: Secret
  baseUrl?: string
}

export interface PriceSettings {
  models: unknown
  unpriced: unknown
  perMinute: number
}

/** Prices are given in credits, kept in micro-credits; mistakes are added to `mistakes`. */
export function readPrices({ models, unpriced, perMinute }: PriceSettings, mistakes: string[]): PriceBook {
  const listed: Record<string, ModelPrice> = {}
  for (const [model, price] of Object.entries(asObject(models))) {
    listed[model] = readPrice(price, `AGENTGATE_PRICES of ${model}`, mistakes)
  }
  return {
    models: listed,
    unpriced: readPrice(unpriced, 'AGENTGATE_PRICE_UNPRICED', mistakes),
    perMinute: Math.ceil(perMinute * MICRO_PER_CREDIT),
  }
}

const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}

function readPrice(value: unknown, what: string, mistakes: string[]): ModelPrice {
  const given = asObject(value)
  const credits = (kind: string): number => {
    const price = given[kind]
    if (typeof price === 'number' && price >= 0) return Math.ceil(price * MICRO_PER_CREDIT)
    mistakes.push(`${what} must give "${kind}" as credits per thousand tokens.`)
    return 0
  }
  return { input: credits('input'), output: credits('output'), cached: credits('cached') }
}
