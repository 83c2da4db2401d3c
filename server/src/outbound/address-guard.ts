import { lookup } from 'node:dns/promises'
import ipaddr from 'ipaddr.js'
import { GateError } from '../domain/error.ts'

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** What the operator allows although it is private: a CIDR block or a host, on one port or on all. */
interface AllowedRange {
  block?: [Address, number]
  host?: string
  port?: number
}

export type RefusalReason = 'scheme' | 'address' | 'redirect' | 'too_large' | 'timeout' | 'network'

/** The request was not made, or its answer was not taken. */
export interface OutboundRefused {
  outcome: 'refused'
  reason: RefusalReason
  /** One sentence for the log of deliveries; names no secret. */
  message: string
  /** The status, when the receiver had already answered (`redirect`, `too_large`). */
  status?: number
}

export interface CheckedHost {
  outcome: 'checked'
  /** Canonical IP addresses, in the resolver's order. Connect to these and never to the name. */
  addresses: string[]
  /** All of them are listed by the operator; only then may the connection be plain `http`. */
  isListed: boolean
}

/** Every address of a host name (an IP literal never gets here). Rejects when there is none. */
export type Resolve = (host: string) => Promise<string[]>

export interface AddressGuard {
  checkHost(host: string, port: number): Promise<CheckedHost | OutboundRefused>
}

export const refused = (reason: RefusalReason, message: string, status?: number): OutboundRefused => ({
  outcome: 'refused',
  reason,
  message,
  ...(status !== undefined && { status }),
})

const resolveBySystem: Resolve = async (host) =>
  (await lookup(host, { all: true, order: 'verbatim' })).map((answer) => answer.address)

/**
 * Decides which addresses the gateway may talk to for others: public unicast ones, and those the operator lists.
 * `allowedPrivateRanges` has entries `CIDR`, `CIDR:port` or `host:port`; anything else is `GateError` INVALID_VALUE.
 */
export function createAddressGuard(
  allowedPrivateRanges: readonly string[],
  resolve: Resolve = resolveBySystem,
): AddressGuard {
  const ranges = allowedPrivateRanges.map(parseAllowedRange)

  const judge = (name: string, port: number, texts: string[]): CheckedHost | OutboundRefused => {
    const addresses = texts.map(plainAddress)
    const listed = addresses.filter((address) => ranges.some((range) => covers(range, address, name, port)))
    // Of a name with listed and other addresses only the listed ones are used: what the operator meant.
    if (listed.length > 0) return { outcome: 'checked', addresses: listed.map(String), isListed: true }
    if (addresses.length === 0) return refused('network', `The name ${name} has no address.`)
    if (!addresses.every(isPublic))
      return refused('address', `${name} leads to an address that is not public.`)
    return { outcome: 'checked', addresses: addresses.map(String), isListed: false }
  }

  return {
    async checkHost(host, port) {
      const name = canonicalHost(host)
      if (name === undefined) return refused('address', 'The host is neither a name nor an IP address.')
      if (ipaddr.isValid(name)) return judge(name, port, [name])
      try {
        return judge(name, port, await resolve(name))
      } catch {
        return refused('network', `The name ${name} could not be resolved.`)
      }
    },
  }
}

/** The host as a URL has it: `0x7f.1`, `127.1`, `2130706433` and `[::1]` become plain addresses. */
function canonicalHost(host: string): string | undefined {
  const isBareIpv6 = host.includes(':') && !host.startsWith('[')
  const text = `http://${isBareIpv6 ? `[${host}]` : host}/`
  if (/[/?#@\\\s]/.test(host) || !URL.canParse(text)) return undefined
  const { hostname, port } = new URL(text)
  return port === '' ? hostname.replace(/^\[|\]$/g, '') : undefined
}

/** IPv4 inside `::ffff:0:0/96` is the same address on the wire, so it is judged as what it is. */
function plainAddress(text: string): Address {
  const address = ipaddr.parse(text)
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address
}

/** The IPv4 address that a NAT64 (64:ff9b::/96) or 6to4 (2002::/16) relay would send to. */
function relayedAddress(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const bytes = address.toByteArray()
  if (address.match(ipaddr.IPv6.parseCIDR('64:ff9b::/96'))) return new ipaddr.IPv4(bytes.slice(12))
  if (address.match(ipaddr.IPv6.parseCIDR('2002::/16'))) return new ipaddr.IPv4(bytes.slice(2, 6))
  return undefined
}

const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

function isPublic(address: Address): boolean {
  if (address instanceof ipaddr.IPv4) return address.range() === 'unicast'
  const relayed = relayedAddress(address)
  if (relayed) return isPublic(relayed)
  return address.range() === 'unicast' && address.match(GLOBAL_UNICAST)
}

function covers(range: AllowedRange, address: Address, name: string, port: number): boolean {
  if (range.port !== undefined && range.port !== port) return false
  if (range.host !== undefined) return range.host === name
  const [block, bits] = range.block ?? []
  if (block === undefined || bits === undefined || block.kind() !== address.kind()) return false
  return address.match(block, bits)
}

function parseAllowedRange(entry: string): AllowedRange {
  const [, place, portText] = /^(.+?)(?::(\d{1,5}))?$/.exec(entry.trim()) ?? []
  const port = portText === undefined ? undefined : Number(portText)
  const isPortValid = port === undefined || (port >= 1 && port <= 65_535)
  const withPort = port === undefined ? {} : { port }
  if (place !== undefined && isPortValid) {
    const block = place.replace(/^\[(.*)\](?=\/|$)/, '$1')
    if (ipaddr.isValidCIDR(block)) return { block: ipaddr.parseCIDR(block), ...withPort }
    const host = place.includes('/') ? undefined : canonicalHost(place)
    if (host !== undefined && port !== undefined) return { host, port }
  }
  throw new GateError('INVALID_VALUE', `"${entry}" is not an address range.`, {
    hint: 'Write a CIDR block (10.0.0.0/8), one with a port (10.0.0.0/8:443), or host:port (localhost:8080).',
  })
}
