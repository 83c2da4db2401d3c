import type { Secret } from '../../lib/secret.ts'
import { parseRepositoryUrl } from '../remote.ts'
import type { Forge } from './forge.ts'
import { GitHubForge } from './github-forge.ts'

export interface ForgeConfig {
  /** API base URLs of further hosts that speak GitHub's REST API, by `host` or `host:port`. */
  apiBaseUrls: Readonly<Record<string, string>>
  /** What may publish to the repository; without one there is no forge. */
  token: Secret | undefined
  fetch?: typeof fetch
}

/** Where a host's REST API is, if it is known to have one. */
export function apiBaseUrlOf(host: string, known: Readonly<Record<string, string>>): string | undefined {
  if (host === 'github.com' || host === 'www.github.com') return 'https://api.github.com'
  return Object.hasOwn(known, host) ? known[host] : undefined
}

/** The forge of a repository, or nothing on a host without a forge API (`no_forge`). */
export function forgeFor(repository: string, config: ForgeConfig): Forge | undefined {
  const url = parseRepositoryUrl(repository)
  const apiBaseUrl = apiBaseUrlOf(new URL(url.href).host, config.apiBaseUrls)
  const [owner, name, ...more] = url.path.split('/')
  if (apiBaseUrl === undefined || config.token === undefined) return undefined
  if (owner === undefined || name === undefined || more.length > 0) return undefined
  return new GitHubForge({
    apiBaseUrl,
    token: config.token,
    owner,
    name,
    ...(config.fetch === undefined ? {} : { fetch: config.fetch }),
  })
}
