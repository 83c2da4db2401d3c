/** Masks secrets in a text. */
export type Clean = (text: string) => string

/** A value of the same shape with every string in it, names of members too, masked. For plain JSON data. */
export function cleanJson<V>(value: V, clean: Clean): V {
  return masked(value, clean) as V // only the contents of strings differ
}

function masked(value: unknown, clean: Clean): unknown {
  if (typeof value === 'string') return clean(value)
  if (Array.isArray(value)) return value.map((item) => masked(item, clean))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [clean(name), masked(member, clean)]),
  )
}
