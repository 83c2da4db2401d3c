import type { TSchema } from '../contract/schema.ts'
import { Problems } from './problems.ts'

type Fields = Record<string, unknown>

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Names of the integration guide that stand elsewhere in ours. */
const MOVED: Readonly<Record<string, readonly [string, ...string[]]>> = {
  tenant_id: ['tenantContext', 'tenantId'],
  user_id: ['tenantContext', 'tenantUserId'],
  run_purpose: ['purpose'],
}

/**
 * The body with every documented field under its camelCase name. What is the caller's own (input, metadata, scripts) has
 * no documented fields and is not looked into. Throws `GateError` when a field comes under both of its names.
 */
export function inCamelCase(body: unknown, schema: TSchema): unknown {
  if (!isFields(body)) return body
  const problems = new Problems()
  const renamed = rename(move(body, problems), schema, { pointer: '', problems })
  problems.throwIfAny()
  return renamed
}

function move(body: Fields, problems: Problems): Fields {
  const moved = { ...body }
  for (const [name, [first, second]] of Object.entries(MOVED)) {
    if (!Object.hasOwn(body, name)) continue
    delete moved[name]
    const target = second === undefined ? moved : { ...contextOf(moved) }
    const last = second ?? first
    if (Object.hasOwn(target, last) || Object.hasOwn(target, snakeCase(last)))
      twice(`/${name}`, last, problems)
    target[last] = body[name]
    if (second !== undefined) {
      delete moved[snakeCase(first)]
      moved[first] = target
    }
  }
  return moved
}

/** A `tenantContext` under either name; anything else that stands there is left for the schema to refuse. */
function contextOf(body: Fields): Fields {
  const context = body['tenantContext'] ?? body['tenant_context']
  return isFields(context) ? context : {}
}

function rename(value: unknown, schema: TSchema, at: { pointer: string; problems: Problems }): unknown {
  const properties: Record<string, TSchema> | undefined = schema['properties']
  if (!isFields(value) || properties === undefined) return value
  const ours = oursOf(properties)
  const renamed: Fields = {}
  for (const [given, member] of Object.entries(value)) {
    const name = ours.get(given) ?? given
    if (Object.hasOwn(renamed, name)) twice(`${at.pointer}/${given}`, name, at.problems)
    const inner = properties[name]
    renamed[name] =
      inner === undefined ? member : rename(member, inner, { ...at, pointer: `${at.pointer}/${name}` })
  }
  return renamed
}

/** The names of a schema's fields by their other spelling; schemas live as long as the program. */
const KNOWN = new WeakMap<object, ReadonlyMap<string, string>>()

function oursOf(properties: Record<string, TSchema>): ReadonlyMap<string, string> {
  const known = KNOWN.get(properties)
  if (known !== undefined) return known
  const ours = new Map(Object.keys(properties).map((name) => [snakeCase(name), name]))
  KNOWN.set(properties, ours)
  return ours
}

const twice = (field: string, name: string, problems: Problems): void =>
  problems.add(field, `is the same field as \`${name}\`, which is given too`)
