import { GateError } from '../domain/error.ts'

export interface HostPort {
  /** Lower case, without brackets or a final dot; in a pattern possibly `*.suffix`. */
  host: string
  port: number
}

const NAME = /^(?:[a-z0-9_-]+\.)*[a-z0-9_-]+$/
const IPV6 = /^[0-9a-f:.]*:[0-9a-f:.]*$/

/** `host:port`, the authority of a CONNECT request; nothing when it is anything else. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text.toLowerCase())
  const host = match?.[1] ?? match?.[2]?.replace(/\.$/, '')
  const port = Number(match?.[3])
  if (host === undefined || port < 1 || port > 65_535) return undefined
  return (match?.[1] === undefined ? NAME : IPV6).test(host) ? { host, port } : undefined
}

/** An entry of an allow-list: `host`, `host:port` or `*.suffix`, with port 443 unless given. */
export function parseHostPattern(text: string): HostPort {
  const isWild = text.startsWith('*.')
  const rest = isWild ? text.slice(2) : text
  const parsed = parseHostPort(/:\d+$/.test(rest) ? rest : `${rest}:443`)
  if (parsed === undefined) {
    throw new GateError('INVALID_VALUE', `"${text}" is not a host, host:port or *.suffix.`)
  }
  return { ...parsed, host: isWild ? `*.${parsed.host}` : parsed.host }
}

export function matchesHost(pattern: HostPort, target: HostPort): boolean {
  if (pattern.port !== target.port) return false
  return pattern.host.startsWith('*.')
    ? target.host.endsWith(pattern.host.slice(1))
    : target.host === pattern.host
}
