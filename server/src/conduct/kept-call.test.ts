import { expect, test } from 'vitest'
import { toolNamed } from '../agents/driver-conformance.ts'
import { scriptedDriver } from '../agents/scripted.ts'
import type { JournalEntry, Script } from '../domain/agent.ts'
import type { JsonObject } from '../domain/json.ts'
import type { HeldRun } from '../domain/performer.ts'
import { someFacts } from '../domain/run.fixture.ts'
import { unborn } from '../domain/run.ts'
import type { RequestedCall, ToolExecutor } from '../domain/tool-call.ts'
import { systemClock } from '../lib/clock.ts'
import { createRedactor } from '../lib/redact.ts'
import { Secret } from '../lib/secret.ts'
import { createVault } from '../vault/vault.ts'
import { runAgentTurn } from './agent-turn.ts'
import { askedCall, keepCall, type Secrecy } from './kept-call.ts'

const OURS = 'host_0123456789abcdef'
const LIKELY = 'q7Zk2VbX9mTf4LsW'

const vault = createVault({ masterKey: new Secret(Buffer.alloc(32, 1).toString('base64')) })
const placeOf = (callId: string) => ({ organizationId: 'org_1', purpose: `call/${callId}` })
const secrecy: Secrecy = {
  ...createRedactor({ secrets: [OURS] }),
  seal: (text, callId) => vault.seal(new Secret(text), placeOf(callId)).toString('base64'),
  open: (sealed, callId) => vault.open(Buffer.from(sealed, 'base64'), placeOf(callId)).reveal(),
}

const callWith = (args: JsonObject, id: RequestedCall['id'] = 'call_1'): RequestedCall => ({
  id,
  providerId: 'p1',
  name: 'write_file',
  arguments: args,
})

test('a call without secrets is kept as it is', () => {
  const call = callWith({ path: 'a.txt', content: 'plain', deep: [{ n: 1, on: true, none: null }] })
  expect(keepCall(call, secrecy)).toEqual(call)
  expect(askedCall(call, secrecy)).toEqual(call)
})

test('what looks like a secret is kept under seal, opened for this call and for no other', () => {
  const call = callWith({ path: 'a.env', content: `TOKEN=${LIKELY}` })
  const kept = keepCall(call, secrecy)
  expect(kept.arguments).toEqual({ path: 'a.env', content: 'TOKEN=[secret]' })
  expect(JSON.stringify(kept)).not.toContain(LIKELY)
  expect(askedCall(kept, secrecy).arguments).toEqual(call.arguments)
  expect(() => askedCall({ ...kept, id: 'call_2' }, secrecy)).toThrow('does not open')
})

test('a secret of the gateway is not kept at all', () => {
  const kept = keepCall(callWith({ content: `${OURS} TOKEN=${LIKELY}` }), secrecy)
  expect(kept).toMatchObject({ arguments: { content: '[secret] TOKEN=[secret]' }, withheld: true })
  expect(kept.sealed).toBeUndefined()
})

test('arguments that could not be read, and names, are kept without secrets', () => {
  const call = { ...callWith({}), name: `use_${OURS}`, arguments: null, malformed: `not JSON: ${OURS}` }
  expect(keepCall(call, secrecy)).toMatchObject({ name: 'use__secret_', malformed: 'not JSON: [secret]' })
})

// A turn that is cut off -----------------------------------------------------------------------------------

/** A run whose journal outlives its holder, which dies at its n-th flush. */
function held(journal: JournalEntry[], diesAtFlush = Number.POSITIVE_INFINITY): HeldRun {
  const waiting: JournalEntry[] = []
  const run = { ...unborn(someFacts()), begunStep: journal.some(({ kind }) => kind === 'step') ? 1 : 0 }
  let flushes = 0
  return {
    run,
    signal: new AbortController().signal,
    defer: (_command, entries = []) => void waiting.push(...entries),
    async flush() {
      if (++flushes >= diesAtFlush) throw new Error('the process died')
      journal.push(...waiting.splice(0))
      return run
    },
    send: async () => run,
    journal: async () => structuredClone(journal),
    noteKilled: () => undefined,
    draft: () => undefined,
  }
}

const SCRIPT: Script = {
  steps: [
    { text: `I keep ${OURS}.`, calls: [{ tool: 'change', arguments: { content: `TOKEN=${LIKELY}` } }] },
    { text: 'Done.' },
  ],
}

function turn(run: HeldRun, carriedOut: unknown[]) {
  const definition = { ...toolNamed('change'), effect: 'workspace' as const }
  const change: ToolExecutor = {
    definition,
    async execute(args) {
      carriedOut.push(args)
      return { ok: true, content: `wrote ${JSON.stringify(args)}` }
    },
  }
  return runAgentTurn({
    held: run,
    driver: scriptedDriver(systemClock, () => SCRIPT),
    input: 'x',
    instructions: '',
    toolbox: new Map([['change', change]]),
    clock: systemClock,
    secrecy,
    pause: async () => undefined,
    onSettled: async () => undefined,
  })
}

test('a call is carried out as it was asked, also by another process that has nothing but the journal', async () => {
  const whole: JournalEntry[] = []
  const atOnce: unknown[] = []
  expect(await turn(held(whole), atOnce)).toBe('Done.')

  const journal: JournalEntry[] = []
  const never: unknown[] = []
  await expect(turn(held(journal, 2), never)).rejects.toThrow('the process died')
  expect(never).toEqual([])
  expect(journal.map(({ kind }) => kind)).toEqual(['step'])
  expect(JSON.stringify(journal)).not.toMatch(new RegExp(`${LIKELY}|${OURS}`))
  const resumed: unknown[] = []
  expect(await turn(held(journal), resumed)).toBe('Done.')

  expect(atOnce).toEqual([{ content: `TOKEN=${LIKELY}` }])
  expect(resumed).toEqual(atOnce)
  expect(JSON.stringify(journal)).not.toMatch(new RegExp(`${LIKELY}|${OURS}`))
  const said = (entries: JournalEntry[]) =>
    entries.map((entry) => (entry.kind === 'step' ? [entry.text, entry.calls[0]?.arguments] : entry.kind))
  expect(said(journal)).toEqual(said(whole))
})
