import type { Problems } from './problems.ts'

/** Somewhere to send events to. Whether it may be reached is decided when it is. */
export function checkCallbackUrl(url: string, field: string, problems: Problems): void {
  readUrl(url, field, problems)
}

/** A repository's address, by its form alone: creating an order never touches the network. */
export function checkRepositoryUrl(url: string, field: string, problems: Problems): void {
  const parsed = readUrl(url, field, problems)
  if (parsed === undefined) return
  if (parsed.search !== '' || parsed.hash !== '') problems.add(field, 'must have no query and no fragment')
  if (parsed.pathname === '/') problems.add(field, 'must name a repository on its host')
}

function readUrl(url: string, field: string, problems: Problems): URL | undefined {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined) {
    problems.add(field, 'must be an absolute URL', 'INVALID_FORMAT')
    return undefined
  }
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') {
    problems.add(field, `must begin with https:// or http://, not ${parsed.protocol}`)
    return undefined
  }
  if (parsed.username !== '' || parsed.password !== '') {
    problems.add(
      field,
      'must not carry credentials; those of git hosts are stored with POST /v1/git-credentials',
    )
  }
  return parsed
}
