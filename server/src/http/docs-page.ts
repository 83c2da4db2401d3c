import { createHash } from 'node:crypto'
import { endpointList, TAGS } from '../contract/endpoints.ts'
import { ERROR_WORDS } from '../contract/error-words.ts'
import type { TSchema } from '../contract/schema.ts'

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem } h3 { margin-top: 2rem }
code { font-family: ui-monospace, monospace; font-size: .9em }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid #8884 }
.scope { opacity: .7 }
`

export interface DocsPage {
  html: string
  /** Allows the page's own style and nothing else. */
  contentSecurityPolicy: string
}

/** The endpoint table for people: one page, without scripts, from nowhere but this process. */
export function docsPage(): DocsPage {
  const html = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>AgentGate API</title>
<style>${STYLE}</style>
<h1>AgentGate API</h1>
<p>For programs: <a href="openapi.json">openapi.json</a>. Send your key as <code>Authorization: Bearer KEY</code>.</p>
${Object.entries(TAGS).map(tagSection).join('\n')}
<h2>Errors</h2>
<table>${Object.entries(ERROR_WORDS).map(errorRow).join('\n')}</table>
</html>
`
  const hash = createHash('sha256').update(STYLE).digest('base64')
  return {
    html,
    contentSecurityPolicy: `default-src 'none'; style-src 'sha256-${hash}'; frame-ancestors 'none'`,
  }
}

function tagSection([tag, description]: [string, string]): string {
  const sections = endpointList.filter((endpoint) => endpoint.tag === tag).map(endpointSection)
  return `<h2>${escapeHtml(tag)}</h2>\n<p>${escapeHtml(description)}</p>\n${sections.join('\n')}`
}

function endpointSection({
  id,
  method,
  path,
  summary,
  scope,
  query,
  body,
}: (typeof endpointList)[number]): string {
  const scopeNote = scope === null ? 'no key' : `scope <code>${escapeHtml(scope)}</code>`
  return `<h3 id="${id}"><code>${method} ${escapeHtml(path)}</code></h3>
<p>${escapeHtml(summary)} <span class="scope">(${scopeNote})</span></p>
${fieldTable('Query', query)}${fieldTable('Body', body)}`
}

function fieldTable(title: string, schema: TSchema | undefined): string {
  const properties: Record<string, TSchema> = schema?.['properties'] ?? {}
  const required: readonly string[] = schema?.['required'] ?? []
  const rows = Object.entries(properties).map(
    ([name, { description = '' }]) =>
      `<tr><td><code>${escapeHtml(name)}</code>${required.includes(name) ? ' *' : ''}</td><td>${escapeHtml(description)}</td></tr>`,
  )
  return rows.length === 0 ? '' : `<table><tr><th>${title}</th><th></th></tr>${rows.join('')}</table>\n`
}

const errorRow = ([code, { meaning, remedy }]: [string, { meaning: string; remedy: string }]): string =>
  `<tr id="${code}"><td><code>${code}</code></td><td>${escapeHtml(meaning)} ${escapeHtml(remedy)}</td></tr>`

const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
