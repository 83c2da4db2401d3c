/** A client that costs little: what it takes from the cores is missing to what is measured. */
import { Agent, request } from 'undici'

export interface BenchClient extends AsyncDisposable {
  /** The answer's text; throws when the status is not `status`. */
  post(path: string, body: string, options: { status: number; wait?: number }): Promise<string>
  get(path: string, options?: { wait?: number }): Promise<string>
}

export function openClient(
  url: string,
  { key, connections }: { key: string; connections: number },
): BenchClient {
  const dispatcher = new Agent({ connections, pipelining: 1, bodyTimeout: 0, headersTimeout: 0 })
  const authorization = `Bearer ${key}`
  const ask = async (path: string, { status, wait, body }: Ask): Promise<string> => {
    const answer = await request(`${url}${path}`, {
      dispatcher,
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(wait !== undefined && { prefer: `wait=${wait}` }),
      },
      body: body ?? null,
    })
    const text = await answer.body.text()
    if (answer.statusCode !== status) throw new Error(`${path} answered ${answer.statusCode}: ${text}`)
    return text
  }
  return {
    post: (path, body, options) => ask(path, { ...options, body }),
    get: (path, options = {}) => ask(path, { status: 200, ...options }),
    [Symbol.asyncDispose]: () => dispatcher.close(),
  }
}

interface Ask {
  status: number
  wait?: number
  body?: string
}

/**
 * Three steps of the scripted agent. It has no tools outside a work order, so the calls that make the script go on
 * are of an unknown one: each is refused, journaled and answered, like any other.
 */
export const THREE_STEPS = JSON.stringify({
  agent: 'scripted',
  input: {
    steps: [
      { text: 'one', calls: [{ tool: 'note', arguments: {} }] },
      { text: 'two', calls: [{ tool: 'note', arguments: { n: 2 } }] },
      { text: 'three' },
    ],
  },
})

export const ONE_STEP = JSON.stringify({ agent: 'scripted', input: { steps: [{ text: 'done' }] } })

/** Makes a run and waits for it in the same request; gives its answer. */
export async function runToEnd(client: BenchClient, body: string): Promise<string> {
  const text = await client.post('/v1/runs', body, { status: 201, wait: 60 })
  if (!text.includes('"state":"completed"')) throw new Error(`The run did not complete: ${text}`)
  return text
}

/** The id of the run that an answer tells of. */
export function runIdOf(answer: string): string {
  const { id }: { id: string } = JSON.parse(answer)
  return id
}
