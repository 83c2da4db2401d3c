import { stripVTControlCharacters } from 'node:util'
import { storable } from '../lib/text.ts'

/** Control characters but tab and newline, and those that reorder, hide or tag what is shown. */
const INVISIBLE =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e007f}]/gu

/** What a program printed as text that is safe to store, show and hand to a model. */
export const plainText = (printed: string): string =>
  storable(stripVTControlCharacters(printed).replace(/\r\n?/g, '\n').replace(INVISIBLE, ''))
