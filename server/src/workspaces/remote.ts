import { isIP } from 'node:net'
import { invariant } from '../lib/invariant.ts'
import type { Secret } from '../lib/secret.ts'
import type { AddressGuard } from '../outbound/address-guard.ts'
import { SourceError } from './failures.ts'
import type { GitCall } from './git.ts'

/** What a git host wants to hear; a bare token goes as the password of any user name. */
export interface GitCredential {
  username: string
  password: Secret
}

/** A repository address that passed the form check. */
export interface RepositoryUrl {
  /** Normalised, without trailing slash: what git is given. */
  href: string
  protocol: 'https:' | 'http:'
  /** Without the brackets of an IPv6 literal. */
  host: string
  port: number
  /** `owner/name` and what stands before, without `.git`. */
  path: string
}

const invalid = (sentence: string): SourceError => new SourceError('source_invalid', sentence)

/** The form check: no network, no surprise. Throws `source_invalid`. */
export function parseRepositoryUrl(text: string): RepositoryUrl {
  // The URL parser drops white space and turns backslashes round; what git would see must be what is checked.
  if (text.length > 2048 || /[\s\\\p{Cc}]/u.test(text)) throw invalid('The repository is not a valid URL.')
  if (!URL.canParse(text)) throw invalid('The repository is not a URL: give it as https://host/owner/name.')
  const url = new URL(text)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw invalid(`Repositories are read over https, not ${url.protocol.slice(0, 32)} addresses.`)
  if (url.username !== '' || url.password !== '')
    throw invalid(
      'The repository URL holds a credential: take it out and store it under /v1/git-credentials.',
    )
  if (url.search !== '' || url.hash !== '') throw invalid('A repository URL has no query and no fragment.')
  const path = url.pathname.replace(/\/+$/, '')
  if (path === '') throw invalid('The repository URL names a host but no repository.')
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  return {
    href: `${url.protocol}//${url.host}${path}`,
    protocol: url.protocol,
    host,
    port,
    path: path.slice(1).replace(/\.git$/, ''),
  }
}

/** What it takes to speak to one repository and to nobody else. */
export interface Remote {
  url: RepositoryUrl
  /** Spread into a git call: the protocol, the checked address and, in the environment only, the credential. */
  call: Pick<GitCall, 'config' | 'environment'>
}

/** The address to connect to. Plain http is only for hosts that the operator listed. */
async function addressOf(url: RepositoryUrl, guard: AddressGuard): Promise<string> {
  const checked = await guard.checkHost(url.host, url.port)
  if (checked.outcome === 'refused') {
    if (checked.reason === 'network')
      throw new SourceError(
        'source_unavailable',
        `The host ${url.host} is not known: check the repository URL.`,
      )
    throw invalid(
      `The host ${url.host} is inside a private network: the operator has to list it to allow it.`,
    )
  }
  const [address] = checked.addresses
  if (url.protocol === 'http:' && !checked.isListed)
    throw invalid('Repositories are read over https; plain http is only for hosts that the operator listed.')
  invariant(address, 'a checked host has an address')
  return address
}

/**
 * Checks where the host name leads and pins git to that address, so that a second answer of the name server
 * changes nothing. Throws `source_invalid` for private addresses, `source_unavailable` for unknown hosts.
 */
export async function openRemote(
  url: RepositoryUrl,
  guard: AddressGuard,
  credential?: GitCredential,
): Promise<Remote> {
  const address = await addressOf(url, guard)
  const pinned = address.includes(':') ? `[${address}]` : address
  const config = [
    'http.followRedirects=false',
    'http.proxy=',
    'http.lowSpeedLimit=1000',
    'http.lowSpeedTime=30',
    ...(isIP(url.host) ? [] : [`http.curloptResolve=${url.host}:${url.port}:${pinned}`]),
  ]
  const environment = { GIT_ALLOW_PROTOCOL: url.protocol.slice(0, -1) }
  if (credential === undefined) return { url, call: { config, environment } }
  const basic = Buffer.from(`${credential.username}:${credential.password.reveal()}`).toString('base64')
  return {
    url,
    call: {
      config,
      environment: {
        ...environment,
        GIT_CONFIG_COUNT: '1',
        GIT_CONFIG_KEY_0: `http.${new URL(url.href).origin}/.extraHeader`,
        GIT_CONFIG_VALUE_0: `Authorization: Basic ${basic}`,
      },
    },
  }
}
