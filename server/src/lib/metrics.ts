/** Figures about the process, in the Prometheus text format 0.0.4. */

export type Labels = Readonly<Record<string, string>>

export interface Counter {
  add(labels?: Labels, by?: number): void
}

export interface Gauge {
  set(value: number, labels?: Labels): void
}

export interface Histogram {
  observe(value: number, labels?: Labels): void
}

interface Family {
  type: 'counter' | 'gauge' | 'histogram'
  text: string
  lines(): Iterable<string>
}

/** All figures of a process. A name is registered once; counters end in `_total`, units come last (`_seconds`). */
export class Metrics {
  readonly #families = new Map<string, Family>()

  counter(name: string, text: string): Counter {
    const series = new Series(name)
    this.#register(name, { type: 'counter', text, lines: () => series.lines() })
    return { add: (labels = {}, by = 1) => series.set(labels, (before) => before + by) }
  }

  gauge(name: string, text: string): Gauge {
    const series = new Series(name)
    this.#register(name, { type: 'gauge', text, lines: () => series.lines() })
    return { set: (value, labels = {}) => series.set(labels, () => value) }
  }

  /** A gauge that is read when somebody looks. */
  observed(name: string, text: string, read: () => number): void {
    this.#register(name, { type: 'gauge', text, lines: () => [`${name} ${read()}`] })
  }

  /** `bounds` are upper limits, ascending. */
  histogram(name: string, text: string, bounds: readonly number[]): Histogram {
    const series = new Map<string, Observations>()
    this.#register(name, {
      type: 'histogram',
      text,
      lines: () => histogramLines(name, bounds, series.values()),
    })
    return {
      observe(value, labels = {}) {
        const key = Object.values(labels).join('\0')
        let seen = series.get(key)
        if (seen === undefined) {
          seen = { labels, counts: bounds.map(() => 0), sum: 0, count: 0 }
          series.set(key, seen)
        }
        const at = bounds.findIndex((bound) => value <= bound)
        if (at >= 0) seen.counts[at] = (seen.counts[at] ?? 0) + 1
        seen.sum += value
        seen.count += 1
      },
    }
  }

  render(): string {
    const lines: string[] = []
    for (const [name, family] of this.#families) {
      lines.push(`# HELP ${name} ${family.text}`, `# TYPE ${name} ${family.type}`, ...family.lines())
    }
    return `${lines.join('\n')}\n`
  }

  #register(name: string, family: Family): void {
    if (this.#families.has(name)) throw new Error(`the metric ${name} is registered twice`)
    this.#families.set(name, family)
  }
}

/** What a histogram saw under one set of labels; `counts` are of each bucket alone. */
interface Observations {
  labels: Labels
  counts: number[]
  sum: number
  count: number
}

/** Buckets count everything up to their bound, as the text format wants it. */
function histogramLines(name: string, bounds: readonly number[], all: Iterable<Observations>): string[] {
  const buckets: string[] = []
  const totals: string[] = []
  for (const { labels, counts, sum, count } of all) {
    let upTo = 0
    for (const [i, bound] of bounds.entries()) {
      upTo += counts[i] ?? 0
      buckets.push(`${name}_bucket${renderLabels({ ...labels, le: String(bound) })} ${upTo}`)
    }
    buckets.push(`${name}_bucket${renderLabels({ ...labels, le: '+Inf' })} ${count}`)
    totals.push(`${name}_sum${renderLabels(labels)} ${sum}`, `${name}_count${renderLabels(labels)} ${count}`)
  }
  return [...buckets, ...totals]
}

/** The values of one name, by labels. */
class Series {
  readonly #name: string
  readonly #values = new Map<string, number>()

  constructor(name: string) {
    this.#name = name
  }

  set(labels: Labels, change: (before: number) => number): void {
    const key = renderLabels(labels)
    this.#values.set(key, change(this.#values.get(key) ?? 0))
  }

  *lines(): Iterable<string> {
    for (const [labels, value] of this.#values) yield `${this.#name}${labels} ${value}`
  }
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const escapeValue = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
