/** Waits for all of them, also when one fails, so that none is left at work; then throws the first failure. */
export async function together<T extends readonly unknown[]>(
  works: {
    [K in keyof T]: Promise<T[K]>
  },
): Promise<T> {
  await Promise.allSettled(works)
  return Promise.all(works)
}
