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
    const buckets = new Series(`${name}_bucket`)
    const sums = new Series(`${name}_sum`)
    const counts = new Series(`${name}_count`)
    const lines = () => [...buckets.lines(), ...sums.lines(), ...counts.lines()]
    this.#register(name, { type: 'histogram', text, lines })
    return {
      observe(value, labels = {}) {
        for (const bound of [...bounds, Number.POSITIVE_INFINITY]) {
          const le = bound === Number.POSITIVE_INFINITY ? '+Inf' : String(bound)
          buckets.set({ ...labels, le }, (before) => before + (value <= bound ? 1 : 0))
        }
        sums.set(labels, (before) => before + value)
        counts.set(labels, (before) => before + 1)
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
