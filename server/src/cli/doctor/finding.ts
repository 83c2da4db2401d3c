/** `problem` keeps the gateway from its work, `warning` from a part of it. */
export type Standing = 'ok' | 'warning' | 'problem'

/** One thing that was tried. */
export interface Finding {
  name: string
  standing: Standing
  /** What was seen. */
  text: string
  /** What to do about it. */
  remedy?: string
}

export const ok = (name: string, text: string): Finding => ({ name, standing: 'ok', text })

export const problem = (name: string, text: string, remedy?: string): Finding => ({
  name,
  standing: 'problem',
  text,
  ...(remedy !== undefined && { remedy }),
})

export const warning = (name: string, text: string, remedy?: string): Finding => ({
  ...problem(name, text, remedy),
  standing: 'warning',
})
