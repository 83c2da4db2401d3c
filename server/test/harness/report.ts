/** Says what a verdict does not: a seed, a figure, the reason of a skip. */
export function report(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** Whether tests are skipped for this reason, if there is one; it is said, so that no skip is silent. */
export function isSkipped(reason: string | null): boolean {
  if (reason !== null) report(`Skipped here: ${reason}.`)
  return reason !== null
}

/** `isSkipped` for what only root may do. */
export const needsRoot = (what: string): boolean =>
  isSkipped(process.getuid?.() === 0 ? null : `${what} needs root`)
