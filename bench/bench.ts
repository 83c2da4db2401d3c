import { cpus, totalmem } from 'node:os'
import { threeSteps } from './three-steps.ts'

const seconds = Number(process.argv[2] ?? 10)
const [cpu] = cpus()
console.log(
  `${cpus().length} × ${cpu?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, embedded PostgreSQL with fsync on`,
)
console.table(await threeSteps({ seconds, clientCounts: [1, 32, 128], mode: 'live' }))
