import type { Clean } from './redact.ts'

/** A value of the same shape with every string in it, names of members too, masked. For plain JSON data. */
export function cleanJson<V>(value: V, clean: Clean): V {
  return masked(value, clean, '') as V // only the contents of strings differ
}

function masked(value: unknown, clean: Clean, name: string): unknown {
  if (typeof value === 'string') return clean(value, name)
  if (Array.isArray(value)) return value.map((item) => masked(item, clean, name))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [clean(key), masked(member, clean, key)]),
  )
}
