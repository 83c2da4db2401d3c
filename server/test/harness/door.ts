import { once } from 'node:events'
import { connect } from 'node:net'
import { text as readText } from 'node:stream/consumers'
import { SCOPES, type Scope } from '../../src/contract/scope.ts'
import type { Mode } from '../../src/domain/facts.ts'
import { newId } from '../../src/lib/id.ts'
import { insertKey } from '../../src/storage/keys.ts'
import { hashKey, mintKey } from '../../src/vault/keys.ts'
import { type Gate, type GateOptions, startGate } from './gate.ts'

interface Asking {
  method?: string
  /** Instead of the endpoint's own path. */
  path?: string
  /** `null` sends none. */
  key?: string | null
  body?: object
  /** Instead of `body`, as it is. */
  raw?: string
  headers?: Record<string, string>
}

/** An answer as it came over the wire. */
export interface Asked {
  status: number
  headers: Headers
  text: string
  // Whatever the server sent; tests look at what they expect.
  // oxlint-disable-next-line typescript/no-explicit-any
  json: any
  /** `error` of the envelope, or an empty one. */
  error: { code: string; message: string; requestId: string; details: Record<string, unknown> }
}

/** One plain HTTP request, without the SDK's retries and readings. */
export async function asked(
  url: string,
  { method = 'GET', key, body, raw, headers = {} }: Asking,
): Promise<Asked> {
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
  const answer = await fetch(url, {
    method,
    headers: {
      ...(key && { authorization: `Bearer ${key}` }),
      ...(payload !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(payload !== undefined && { body: payload }),
  })
  const text = await answer.text()
  const json =
    /json/.test(answer.headers.get('content-type') ?? '') && text !== '' ? JSON.parse(text) : undefined
  const error = json?.error ?? { code: '', message: '', requestId: '', details: {} }
  return { status: answer.status, headers: answer.headers, text, json, error }
}

interface NewKey {
  organizationId?: string
  mode?: Mode
  tenantId?: string
  scopes?: readonly string[]
  expiresAt?: Date
  revokedAt?: Date
}

/** A gate with keys of every kind, and with objects that only the live key may see. */
export interface Door extends Gate {
  unknownKey: string
  revokedKey: string
  expiredKey: string
  /** Of another organisation, with all scopes. */
  strangerKey: string
  keyWithout(scope: Scope | null): Promise<string>
  tenantKey(tenantId: string): Promise<string>
  makeKey(key: NewKey): Promise<string>
  /** The id of an object of this kind, live, without a tenant. */
  ownedId(kind: string): Promise<string>
  sendBytes(bytes: string): Promise<string>
}

export async function openDoor(options?: GateOptions): Promise<Door> {
  const gate = await startGate(options)
  const { database } = gate.app
  const [ours] = await database.query<{ id: string }>('select id from organization')
  const stranger = newId('org', Date.now())
  await database.query("insert into organization (id, name, created_at) values ($1, 'stranger', $2)", [
    stranger,
    new Date(),
  ])

  const makeKey = async ({
    mode = 'live',
    tenantId,
    scopes = ['*'],
    expiresAt,
    ...rest
  }: NewKey): Promise<string> => {
    const key = mintKey({ holder: tenantId === undefined ? 'organization' : 'tenant', mode }).reveal()
    const id = newId('key', Date.now())
    await insertKey(database, {
      id,
      organizationId: rest.organizationId ?? ours?.id ?? '',
      mode,
      tenantId: tenantId ?? null,
      name: '',
      hint: key.slice(0, 13),
      hash: hashKey(key),
      scopes: [...scopes],
      createdAt: new Date(),
      expiresAt: expiresAt ?? null,
      revokedAt: null,
      lastUsedAt: null,
    })
    if (rest.revokedAt)
      await database.query('update api_key set revoked_at = $2 where id = $1', [id, rest.revokedAt])
    return key
  }

  return {
    ...gate,
    unknownKey: mintKey({ holder: 'organization', mode: 'live' }).reveal(),
    revokedKey: await makeKey({ revokedAt: new Date() }),
    expiredKey: await makeKey({ expiresAt: new Date(Date.now() - 1_000) }),
    strangerKey: await makeKey({ organizationId: stranger }),
    keyWithout: (scope) => makeKey({ scopes: SCOPES.filter((one) => one !== scope && one !== '*') }),
    tenantKey: (tenantId) => makeKey({ tenantId }),
    makeKey,
    ownedId: (kind) => ownedId(gate, kind),
    sendBytes: (bytes) => sendBytes(gate.url, bytes),
  }
}

async function ownedId({ client }: Gate, kind: string): Promise<string> {
  switch (kind) {
    case 'run':
      return (await client.runs.create({ agent: 'scripted', input: { steps: [] } })).id
    case 'wo': {
      const workspaceSource = { type: 'git', repository: 'https://127.0.0.1:9/a' } as const
      return (await client.workOrders.create({ taskPrompt: 'x', workspaceSource })).workOrderId
    }
    case 'key':
      return (await client.keys.create({ name: 'x' })).key.id
    case 'cred':
      return (
        await client.gitCredentials.create({ host: 'a.example', kind: 'token', use: 'read', secret: 's' })
      ).id
    default:
      throw new Error(`no test has objects of the kind ${kind}`)
  }
}

async function sendBytes(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  socket.end(bytes)
  return readText(socket)
}
