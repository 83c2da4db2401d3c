/** 1 credit = 1 cent = 1,000,000 micro-credits. Every amount inside is an integer of micro-credits. */
export const MICRO_PER_CREDIT = 1_000_000

/** `inputTokens` includes `cachedTokens`. */
export interface TokenUsage {
  inputTokens: number
  outputTokens: number
  cachedTokens: number
}

export const NO_TOKENS: TokenUsage = { inputTokens: 0, outputTokens: 0, cachedTokens: 0 }

export const addTokens = (a: TokenUsage, b: TokenUsage): TokenUsage => ({
  inputTokens: a.inputTokens + b.inputTokens,
  outputTokens: a.outputTokens + b.outputTokens,
  cachedTokens: a.cachedTokens + b.cachedTokens,
})

export const hasTokens = ({ inputTokens, outputTokens }: TokenUsage): boolean =>
  inputTokens + outputTokens > 0

/** Micro-credits per thousand tokens of each kind. */
export interface ModelPrice {
  input: number
  output: number
  cached: number
}

/** The public price formula: tokens per thousand by model, plus minutes of work. */
export interface PriceBook {
  models: Readonly<Record<string, ModelPrice>>
  /** For a model that is not in the book; what it gives is a floor, marked `estimated`. */
  unpriced: ModelPrice
  /** Micro-credits per minute of `running`, counted by started seconds. */
  perMinute: number
}

export interface Price {
  micro: number
  estimated: boolean
}

/** What a step costs. `model` is `provider/id`; a book entry may be for the whole name or for the id alone. */
export function priceTokens(book: PriceBook, model: string, usage: TokenUsage): Price {
  const id = model.slice(model.indexOf('/') + 1)
  const listed = book.models[model] ?? book.models[id]
  const price = listed ?? book.unpriced
  const fresh = Math.max(0, usage.inputTokens - usage.cachedTokens)
  const perThousand =
    fresh * price.input + usage.cachedTokens * price.cached + usage.outputTokens * price.output
  return { micro: Math.ceil(perThousand / 1000), estimated: listed === undefined }
}

export const priceSeconds = (book: PriceBook, ms: number): number =>
  Math.ceil((Math.ceil(ms / 1000) * book.perMinute) / 60)

/** Whole credits for people, rounded up once, at settlement. */
export const creditsCharged = (micro: number): number => Math.ceil(micro / MICRO_PER_CREDIT)

/** What a final run is charged: its cost rounded up to whole credits, in micro-credits. */
export const settledMicro = (micro: number): number => creditsCharged(micro) * MICRO_PER_CREDIT

/**
 * What usage that came after a run's settlement adds to its charge: rounding happens once, over both together.
 * `settled` is the cost of the run and of what was late before.
 */
export const lateMicro = (settled: number, late: number): number =>
  settledMicro(settled + late) - settledMicro(settled)

export type LedgerKind = 'grant' | 'reserve' | 'release' | 'deduct' | 'refund' | 'late' | 'expire'

export interface Account {
  /** Granted in all, of each class. */
  includedMicro: number
  purchasedMicro: number
  reservedMicro: number
  spentMicro: number
}

/** Invariant 6 read as an equation: what can still be reserved. */
export const availableMicro = (account: Account): number =>
  account.includedMicro + account.purchasedMicro - account.reservedMicro - account.spentMicro
