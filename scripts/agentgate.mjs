// What ./agentgate runs: sets up what is missing, then becomes the program.
import { pathToFileURL } from 'node:url'
import { bootstrap, orExplain } from './bootstrap.mjs'
import { FOR_RUNS } from './system-setup.mjs'

const runsWork = ['start', 'demo'].includes(process.argv[2] ?? '')
await orExplain(() => bootstrap({ systemPackages: runsWork ? FOR_RUNS : [], needsGit: runsWork }))
const { builtProgram } = await import('./build.mjs')
const program = await orExplain(builtProgram)
process.setSourceMapsEnabled(true)
await import(pathToFileURL(program).href)
