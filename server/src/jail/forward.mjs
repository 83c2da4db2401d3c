// Runs inside a jail without network: makes the proxy's unix socket reachable as a loopback port, then runs
// the command and ends as it ends. Usage: node forward.mjs PORT SOCKET COMMAND [ARGUMENT…]
import { spawn } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { constants } from 'node:os'

const [port, socketPath, file, ...args] = process.argv.slice(2)

const server = createServer({ allowHalfOpen: true }, (inner) => {
  const outer = connect({ path: socketPath, allowHalfOpen: true })
  const end = () => {
    inner.destroy()
    outer.destroy()
  }
  inner.on('error', end)
  outer.on('error', end)
  inner.pipe(outer)
  outer.pipe(inner)
})

server.listen(Number(port), '127.0.0.1', () => {
  const child = spawn(file, args, { stdio: 'inherit' })
  child.on('error', (error) => {
    process.stderr.write(`${file}: ${error.message}\n`)
    process.exit(127)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
})
