/** What one call of the bench was asked for. */
export interface BenchOptions {
  /** Length of one measurement. */
  seconds: number
  /** Of the large counts: 1 is a million rows. */
  scale: number
  /** Work orders of a soak. */
  orders: number
  signal: AbortSignal
  /** Where gateways leave a CPU profile each. */
  profileDir: string | null
}

/** Keys are camelCase with their unit last (`p50Ms`); the report makes its headings of them. */
export type Row = Readonly<Record<string, string | number>>

export interface Table {
  title: string
  rows: readonly Row[]
}

/** What a measurement came to. */
export interface Outcome {
  /** Settings under which it ran: the limits of the gateway, counts, concurrency. */
  conditions: Row
  tables: readonly Table[]
  /** What the figures say, in sentences: where an aim is met or missed, and what the limit was. */
  findings: readonly string[]
}

export type Measure = (options: BenchOptions) => Promise<Outcome>
