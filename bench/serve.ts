/** A gateway for benchmarks, in a process of its own: prints one line of JSON when it is ready, ends with its parent. */
import { pino } from 'pino'
import { startApp } from '../server/src/app.ts'
import { readConfig } from '../server/src/config.ts'

const config = readConfig(process.env)
const app = await startApp(config, {
  log: pino({ level: 'warn' }, pino.destination(2)),
  pause: async () => undefined,
  random: Math.random,
  lifetime: 'with-parent',
})
const keys = app.firstSecrets
process.stdout.write(
  `${JSON.stringify({ url: app.url, liveKey: keys?.liveKey.reveal(), testKey: keys?.testKey.reveal() })}\n`,
)

process.on('message', (word) => {
  if (word === 'usage') process.send?.({ cpu: process.cpuUsage(), rss: process.memoryUsage().rss })
})
process.once('disconnect', () => {
  void Promise.resolve(app[Symbol.asyncDispose]()).finally(() => process.exit(0))
})
