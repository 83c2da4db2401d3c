import { PassThrough, Readable } from 'node:stream'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { logLines } from './log-lines.ts'
import { Terminal } from './terminal.ts'

function logged(write: (log: pino.Logger) => void): string {
  const stderr = new PassThrough()
  const streams = { stdin: Readable.from([]), stdout: new PassThrough(), stderr }
  write(pino({ base: null }, logLines(new Terminal(streams, { wantsColour: false }))))
  return String(stderr.read() ?? '')
}

test('a line of the log is a time, a sentence and what it is about', () => {
  const said = logged((log) => log.info({ route: '/v1/runs', status: 201, made: ['a'] }, 'It was answered.'))
  expect(said).toMatch(/^\d\d:\d\d:\d\d It was answered\. route=\/v1\/runs status=201 made=\["a"\]\n$/)
  expect(logged((log) => log.info('Nothing more.'))).toMatch(/^\S+ Nothing more\.\n$/)
})

test('what went wrong says so, with where', () => {
  expect(logged((log) => log.warn('It is late.'))).toMatch(/^\S+ warning: It is late\.\n$/)
  const said = logged((log) => log.error({ err: new Error('broken') }, 'A round failed.'))
  expect(said).toMatch(/^\S+ error: A round failed\.\n {4}Error: broken\n {4}at /)
  expect(logged((log) => log.error({ err: 'broken' }, 'It failed.'))).toMatch(/It failed\.\n {4}broken\n$/)
})

test('what others wrote does nothing to the terminal', () => {
  const said = logged((log) =>
    log.error(
      { name: '\u001B[2J\nforged', err: new Error('\u001B]0;x\u0007\r\u202Eevil') },
      'A\u001B[1m name.',
    ),
  )
  expect(said.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
  expect(said).toContain('name=[2J forged')
})
