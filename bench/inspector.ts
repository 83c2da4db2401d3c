/** What V8 tells of a gateway from inside, through the inspector that Node brings: nothing of the gateway changes. */
import { createWriteStream } from 'node:fs'
import { WebSocket } from 'undici'
import { isJsonObject, type JsonObject } from '../server/src/domain/json.ts'

export interface Inspector extends Disposable {
  /** What is in use after a whole collection of garbage, in MiB: the heap and the memory behind its buffers. */
  liveMib(): Promise<number>
  /** The value of an expression in the gateway's global scope. */
  evaluate(expression: string): Promise<unknown>
  /** Writes what Chrome's developer tools open. */
  writeSnapshot(path: string): Promise<void>
}

/** To the address that `--inspect` prints. */
export async function openInspector(url: string): Promise<Inspector> {
  const socket = new WebSocket(url)
  const waiting = new Map<number, { resolve: (result: JsonObject) => void; reject: (error: Error) => void }>()
  let onChunk = (_text: string): void => undefined
  let asked = 0
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve(), { once: true })
    socket.addEventListener('error', () => reject(new Error(`No inspector answers at ${url}.`)), {
      once: true,
    })
  })
  socket.addEventListener('message', ({ data }) => {
    const message: JsonObject = JSON.parse(String(data))
    const { id, params, result, error } = message
    if (typeof id !== 'number') {
      if (isJsonObject(params) && typeof params['chunk'] === 'string') onChunk(params['chunk'])
      return
    }
    if (isJsonObject(result)) waiting.get(id)?.resolve(result)
    else waiting.get(id)?.reject(new Error(`The inspector answered ${JSON.stringify(error)}.`))
    waiting.delete(id)
  })
  socket.addEventListener('close', () => {
    for (const { reject } of waiting.values()) reject(new Error('The inspector is gone.'))
  })
  const ask = (method: string, params: JsonObject = {}): Promise<JsonObject> =>
    new Promise((resolve, reject) => {
      waiting.set(++asked, { resolve, reject })
      socket.send(JSON.stringify({ id: asked, method, params }))
    })
  return {
    async liveMib() {
      await ask('HeapProfiler.collectGarbage')
      const { usedSize, backingStorageSize } = await ask('Runtime.getHeapUsage')
      return (Number(usedSize) + Number(backingStorageSize ?? 0)) / 2 ** 20
    },
    async evaluate(expression) {
      const { result } = await ask('Runtime.evaluate', { expression, returnByValue: true })
      return isJsonObject(result) ? result['value'] : undefined
    },
    async writeSnapshot(path) {
      const file = createWriteStream(path)
      onChunk = (text) => void file.write(text)
      await ask('HeapProfiler.takeHeapSnapshot', { reportProgress: false })
      onChunk = () => undefined
      await new Promise<void>((resolve) => file.end(() => resolve()))
    },
    [Symbol.dispose]: () => socket.close(),
  }
}
