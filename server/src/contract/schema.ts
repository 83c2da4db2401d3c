import { type Static, type TObject, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import type { JsonObject, JsonValue } from '../domain/json.ts'

export { type Static, type TSchema, Type }

/** Gives a schema its name: `openapi.json` lists it once under this name and refers to it everywhere else. */
export const named = <S extends TSchema>(title: string, schema: S): S => ({ ...schema, title })

/** An object of a request: a field that is not listed is an error. */
export const closed = <P extends TProperties>(properties: P, description?: string): TObject<P> =>
  Type.Object(properties, { additionalProperties: false, ...(description && { description }) })

/** An object of an answer: clients must expect fields that are not listed yet. */
export const open = <P extends TProperties>(properties: P, description?: string): TObject<P> =>
  Type.Object(properties, description ? { description } : {})

export const optional = <S extends TSchema>(schema: S) => Type.Optional(schema)

/** One of these words. */
export const oneWord = <const W extends readonly string[]>(words: W, description: string) =>
  Type.Unsafe<W[number]>({ type: 'string', enum: [...words], description })

/** The same, or null. `schema` has one `type`. */
export function nullable<S extends TSchema>(schema: S) {
  const { type, enum: words, ...rest } = schema
  const wider = words === undefined ? {} : { enum: [...words, null] }
  return Type.Unsafe<Static<S> | null>({ ...rest, type: [type, 'null'], ...wider })
}

/** A named object, or null. */
export const nullableObject = <S extends TSchema>(schema: S, description: string) =>
  Type.Unsafe<Static<S> | null>({ oneOf: [schema, { type: 'null' }], description })

interface Tag {
  /** The property whose word tells the variants apart. */
  name: string
  /** Words that are promised and not there yet. */
  later: readonly string[]
  description: string
}

/** One of several objects, told apart by a word; an error then speaks of the variant that was meant. */
export const tagged = <const S extends readonly TObject[]>(tag: Tag, variants: S) =>
  Type.Unsafe<Static<S[number]>>({
    type: 'object',
    discriminator: { propertyName: tag.name },
    required: [tag.name],
    oneOf: [...variants],
    'x-later': tag.later,
    description: tag.description,
  })

export const text = (description: string, limits: { minLength?: number; maxLength?: number } = {}) =>
  Type.String({ description, ...limits })

/** A caller's own string of 1–255 characters. */
export const label = (description: string) => Type.String({ description, minLength: 1, maxLength: 255 })

export const count = (description: string, limits: { minimum?: number; maximum?: number } = {}) =>
  Type.Integer({ description, minimum: 0, ...limits })

export const flag = (description: string) => Type.Boolean({ description })

/** A moment: ISO 8601 UTC with milliseconds. */
export const moment = (description: string) => Type.String({ format: 'date-time', description })

export const idOf = (kind: string, description: string) =>
  Type.String({ description, examples: [`${kind}_01m2q9x7zt3k5v8w0n4r6y1c2e`] })

export const anyJson = (description: string) => Type.Unsafe<JsonValue>({ description })

export const jsonObject = (description: string, limits: { maxProperties?: number } = {}) =>
  Type.Unsafe<JsonObject>({ type: 'object', description, ...limits })

export const list = <S extends TSchema>(items: S, description: string, limits: { maxItems?: number } = {}) =>
  Type.Array(items, { description, ...limits })
