// What ./agentgate runs: sets up what is missing, then becomes the program.
import { pathToFileURL } from 'node:url'
import { bootstrap, orExplain } from './bootstrap.mjs'

const runsWork = ['start', 'demo'].includes(process.argv[2] ?? '')
await orExplain(() => bootstrap({ systemPackages: runsWork ? ['bubblewrap'] : [], needsGit: runsWork }))
const { builtProgram } = await import('./build.mjs')
const program = await builtProgram()
process.setSourceMapsEnabled(true)
await import(pathToFileURL(program).href)
