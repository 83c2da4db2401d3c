/** Writes the files that are made from the source: `node --import tsx scripts/generate.ts`. */
import { writeFile } from 'node:fs/promises'
import { configMarkdown, exampleEnvironment } from '../server/src/config.ts'
import { buildErrorsDoc } from '../server/src/contract/errors-doc.ts'
import { buildOpenApi } from '../server/src/contract/openapi.ts'
import { STATUS_OF_KIND } from '../server/src/http/errors.ts'

/** Every generated file by its path from the root, with its text. */
export const generatedFiles = (): Record<string, string> => ({
  'openapi.json': `${JSON.stringify(buildOpenApi(), null, 2)}\n`,
  'docs/errors.md': buildErrorsDoc(STATUS_OF_KIND),
  'docs/config.md': configMarkdown(),
  'example.env': exampleEnvironment(),
})

if (import.meta.filename === process.argv[1]) {
  for (const [path, text] of Object.entries(generatedFiles())) {
    await writeFile(new URL(`../${path}`, import.meta.url), text)
  }
}
