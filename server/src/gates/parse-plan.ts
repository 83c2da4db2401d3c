import { type ErrorCode, GateError } from '../domain/error.ts'
import {
  GATE_DEFAULTS,
  GATE_LEVELS,
  type Gate,
  type GateCheck,
  type GateFailure,
  type GateLevel,
  type GatePreset,
} from '../domain/gate-plan.ts'
import { compileGlob, compilePattern, PatternRefused } from './pattern.ts'

/** A gate plan as it was asked for, checked but not yet joined with what the repository offers. */
export interface GatePlanRequest {
  preset: GatePreset
  /** Instead of the detected commands; `null` leaves those. */
  setup: string[] | null
  /** The levels to run; `null` is all. */
  levels: GateLevel[] | null
  /** Instead of the preset's gates; `null` leaves those. */
  gates: Gate[] | null
}

const MAX_GATES = 50
const MAX_COMMANDS = 20
const MAX_PATTERNS = 100
const COMMAND_CHARACTERS = 10_000
const TIMEOUT_SECONDS = { least: 1, most: 3_600 }
const ATTEMPTS = { least: 1, most: 100 }
const NAME = /^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$/

const PRESETS = ['default', 'strict', 'none'] as const
const FAILURES = ['iterate', 'stop', 'escalate'] as const
const CHECKS = ['command', 'files', 'forbid'] as const
const LATER_LEVELS = ['L2', 'L3']
const LATER_CHECKS = ['schema', 'blackbox', 'diff', 'approval', 'github-actions']

interface PlanProblem {
  code: ErrorCode
  /** RFC 6901 pointer. */
  field: string
  message: string
}

/**
 * Reads a plan as it stands on the wire or in a repository's file: a preset's name or an object.
 * `pointer` is where the value stands in its document (RFC 6901).
 *
 * @throws GateError INVALID_REQUEST, MISSING_FIELD, INVALID_FORMAT, INVALID_VALUE or UNKNOWN_FIELD, with
 * every mistake in `details.errors[]{field, message}`.
 */
export function parseGatePlan(value: unknown, pointer: string): GatePlanRequest {
  const reader = new PlanReader()
  const request = reader.plan(value, pointer)
  const [first, ...others] = reader.problems
  if (first === undefined) return request
  const code = others.every((other) => other.code === first.code) ? first.code : 'INVALID_REQUEST'
  throw new GateError(code, `The gate plan is not valid: ${first.field || '/'} ${first.message}.`, {
    details: { errors: reader.problems.map(({ field, message }) => ({ field, message })) },
  })
}

/** The name under which a gate's report is kept; two gates of a plan never share it. */
export const gateSlug = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]+/g, '-')

type Fields = Record<string, unknown>

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const below = (pointer: string, key: string | number): string =>
  `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`

/** Reads on after a mistake, so that all of them are told at once; what it returns then is never used. */
class PlanReader {
  readonly problems: PlanProblem[] = []

  plan(value: unknown, at: string): GatePlanRequest {
    const request: GatePlanRequest = { preset: 'default', setup: null, levels: null, gates: null }
    if (typeof value === 'string') {
      return { ...request, preset: this.#oneOf(value, at, PRESETS) }
    }
    const fields = this.#object(value, at, ['preset', 'setup', 'levels', 'gates'])
    if (fields === null) return request
    if (fields.preset !== undefined) {
      request.preset = this.#oneOf(fields.preset, below(at, 'preset'), PRESETS)
    } else if (fields.gates === undefined) {
      this.#add('MISSING_FIELD', below(at, 'gates'), 'is required unless `preset` is given')
    }
    if (fields.setup !== undefined) {
      request.setup = this.#list(fields.setup, below(at, 'setup'), MAX_COMMANDS).map(([command, place]) =>
        this.#command(command, place),
      )
    }
    if (fields.levels !== undefined) {
      request.levels = this.#list(fields.levels, below(at, 'levels'), 4).map(([level, place]) =>
        this.#level(level, place),
      )
    }
    if (fields.gates !== undefined) request.gates = this.#gates(fields.gates, below(at, 'gates'))
    if (request.preset === 'none' && request.gates !== null) {
      this.#add('INVALID_VALUE', below(at, 'preset'), 'is `none`, so `gates` cannot be given')
    }
    return request
  }

  #gates(value: unknown, at: string): Gate[] {
    const slugs = new Set<string>()
    return this.#list(value, at, MAX_GATES).map(([item, place]) => {
      const gate = this.#gate(item, place)
      const slug = gateSlug(gate.name)
      if (gate.name !== '' && slugs.has(slug)) {
        this.#add('INVALID_VALUE', below(place, 'name'), `repeats the name of another gate: "${gate.name}"`)
      }
      slugs.add(slug)
      return gate
    })
  }

  #gate(value: unknown, at: string): Gate {
    const gate: Gate = { name: '', level: 'L0', check: { type: 'files', required: [] }, ...GATE_DEFAULTS }
    const known = ['name', 'level', 'check', 'timeoutSeconds', 'onFailure', 'maxAttempts']
    const fields = this.#object(value, at, known, ['name', 'level', 'check'])
    if (fields === null) return gate
    if (fields.name !== undefined) gate.name = this.#name(fields.name, below(at, 'name'))
    if (fields.level !== undefined) gate.level = this.#level(fields.level, below(at, 'level'))
    if (fields.check !== undefined) gate.check = this.#check(fields.check, below(at, 'check'))
    return {
      ...gate,
      timeoutSeconds:
        fields.timeoutSeconds === undefined
          ? gate.timeoutSeconds
          : this.#integer(fields.timeoutSeconds, below(at, 'timeoutSeconds'), TIMEOUT_SECONDS),
      onFailure:
        fields.onFailure === undefined
          ? gate.onFailure
          : this.#oneOf<GateFailure>(fields.onFailure, below(at, 'onFailure'), FAILURES),
      maxAttempts:
        fields.maxAttempts === undefined || fields.maxAttempts === null
          ? null
          : this.#integer(fields.maxAttempts, below(at, 'maxAttempts'), ATTEMPTS),
    }
  }

  #check(value: unknown, at: string): GateCheck {
    const check: GateCheck = { type: 'files', required: [] }
    if (!isObject(value)) {
      this.#add('INVALID_FORMAT', at, 'must be an object with a `type`')
      return check
    }
    if (value.type === undefined) {
      this.#add('MISSING_FIELD', below(at, 'type'), 'is required')
      return check
    }
    const before = this.problems.length
    const type = this.#oneOf(value.type, below(at, 'type'), CHECKS, LATER_CHECKS)
    if (this.problems.length > before) return check
    switch (type) {
      case 'command':
        this.#object(value, at, ['type', 'run'], ['run'])
        return { type, run: value.run === undefined ? '' : this.#command(value.run, below(at, 'run')) }
      case 'files':
        this.#object(value, at, ['type', 'required'], ['required'])
        return { type, required: this.#patterns(value.required, below(at, 'required'), compileGlob) ?? [] }
      case 'forbid':
        return this.#forbid(value, at)
    }
  }

  #forbid(value: Fields, at: string): GateCheck {
    this.#object(value, at, ['type', 'patterns', 'paths'])
    if (value.patterns === undefined && value.paths === undefined) {
      this.#add('MISSING_FIELD', below(at, 'patterns'), 'is required unless `paths` is given')
    }
    const patterns = this.#patterns(value.patterns, below(at, 'patterns'), compilePattern)
    const paths = this.#patterns(value.paths, below(at, 'paths'), compileGlob)
    return { type: 'forbid', ...(patterns && { patterns }), ...(paths && { paths }) }
  }

  #patterns(value: unknown, at: string, compile: (pattern: string) => unknown): string[] | null {
    if (value === undefined) return null
    const items = this.#list(value, at, MAX_PATTERNS)
    if (Array.isArray(value) && value.length === 0) this.#add('INVALID_VALUE', at, 'must not be empty')
    return items.map(([item, place]) => {
      if (typeof item !== 'string') {
        this.#add('INVALID_FORMAT', place, 'must be a string')
        return ''
      }
      try {
        compile(item)
      } catch (error) {
        if (!(error instanceof PatternRefused)) throw error
        this.#add('INVALID_VALUE', place, error.message)
      }
      return item
    })
  }

  #name(value: unknown, at: string): string {
    if (typeof value === 'string' && NAME.test(value)) return value
    const message = 'must be 1 to 64 letters, digits, spaces, dots, dashes or underscores'
    this.#add('INVALID_FORMAT', at, message)
    return ''
  }

  #command(value: unknown, at: string): string {
    if (typeof value !== 'string') {
      this.#add('INVALID_FORMAT', at, 'must be a string')
      return ''
    }
    if (value.trim() === '' || value.length > COMMAND_CHARACTERS || value.includes('\0')) {
      this.#add('INVALID_VALUE', at, `must be a shell command of 1 to ${COMMAND_CHARACTERS} characters`)
    }
    return value
  }

  #level(value: unknown, at: string): GateLevel {
    return this.#oneOf<GateLevel>(value, at, GATE_LEVELS, LATER_LEVELS)
  }

  #integer(value: unknown, at: string, range: { least: number; most: number }): number {
    if (typeof value !== 'number' || !Number.isInteger(value)) {
      this.#add('INVALID_FORMAT', at, 'must be an integer')
      return range.least
    }
    if (value < range.least || value > range.most) {
      this.#add('INVALID_VALUE', at, `must be from ${range.least} to ${range.most}`)
    }
    return value
  }

  /** `later` are words that the contract has and this version does not serve. */
  #oneOf<T extends string>(
    value: unknown,
    at: string,
    ...[allowed, later = []]: [allowed: readonly [T, ...T[]], later?: readonly string[]]
  ): T {
    const found = allowed.find((word) => word === value)
    if (found !== undefined) return found
    const list = allowed.map((word) => `\`${word}\``).join(', ')
    if (typeof value !== 'string') this.#add('INVALID_FORMAT', at, `must be one of ${list}`)
    else if (later.includes(value)) {
      this.#add('INVALID_VALUE', at, `is \`${value}\`, which is not available yet; use one of ${list}`)
    } else this.#add('INVALID_VALUE', at, `must be one of ${list}`)
    return allowed[0]
  }

  #list(value: unknown, at: string, most: number): [item: unknown, place: string][] {
    if (!Array.isArray(value)) {
      this.#add('INVALID_FORMAT', at, 'must be a list')
      return []
    }
    if (value.length > most) this.#add('INVALID_VALUE', at, `must have at most ${most} entries`)
    return value.slice(0, most).map((item: unknown, index) => [item, below(at, index)])
  }

  #object(
    value: unknown,
    at: string,
    ...[known, required = []]: [known: readonly string[], required?: readonly string[]]
  ): Fields | null {
    if (!isObject(value)) {
      this.#add('INVALID_FORMAT', at, 'must be an object')
      return null
    }
    for (const key of Object.keys(value)) {
      if (!known.includes(key)) this.#add('UNKNOWN_FIELD', below(at, key), 'is not a field of a gate plan')
    }
    for (const key of required) {
      if (value[key] === undefined) this.#add('MISSING_FIELD', below(at, key), 'is required')
    }
    return value
  }

  #add(code: ErrorCode, field: string, message: string): void {
    this.problems.push({ code, field, message })
  }
}
