import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { GateError } from '../domain/error.ts'
import { invariant } from '../lib/invariant.ts'
import { Secret } from '../lib/secret.ts'

/** Where a sealed secret belongs. It opens nowhere else. */
export interface SecretPlace {
  organizationId: string
  /** Which secret it is, such as `webhook_secret/live/<tenant>`; never changes once something is sealed under it. */
  purpose: string
}

export interface Vault {
  /** Tells master keys apart without saying anything about them; 16 hex digits. */
  readonly keyId: string
  seal(secret: Secret, place: SecretPlace): Buffer
  /** Throws `GateError` INTERNAL_ERROR for another master key, another place, or bytes that were changed. */
  open(sealed: Uint8Array, place: SecretPlace): Secret
}

// Layout of a sealed secret: version (1 byte), key id (8), nonce (12), tag (16), ciphertext.
const VERSION = 1
const NONCE_START = 9
const TAG_START = 21
const TEXT_START = 37
const KEY_BYTES = 32

/** AES-256-GCM with a random nonce; header and place are authenticated. The key comes from `parseMasterKey`. */
export function createVault({ masterKey }: { masterKey: Secret }): Vault {
  const key = Buffer.from(masterKey.reveal(), 'base64')
  invariant(key.length === KEY_BYTES, 'a master key has 32 bytes')
  const idBytes = createHash('sha256').update('agentgate master key\0').update(key).digest().subarray(0, 8)
  const keyId = idBytes.toString('hex')

  return {
    keyId,
    seal(secret, place) {
      const nonce = randomBytes(TAG_START - NONCE_START)
      const header = Buffer.concat([Buffer.of(VERSION), idBytes])
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(associatedData(header, place))
      const text = Buffer.concat([cipher.update(secret.reveal(), 'utf8'), cipher.final()])
      return Buffer.concat([header, nonce, cipher.getAuthTag(), text])
    },
    open(sealed, place) {
      const bytes = Buffer.from(sealed)
      const header = bytes.subarray(0, NONCE_START)
      if (bytes.length < TEXT_START || bytes[0] !== VERSION) throw unopenable('It is not a sealed secret.')
      if (!header.subarray(1).equals(idBytes)) {
        throw unopenable(`It was sealed with the master key ${header.toString('hex', 1)}, not ${keyId}.`)
      }
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(NONCE_START, TAG_START), {
        authTagLength: TEXT_START - TAG_START,
      })
      decipher.setAAD(associatedData(header, place)).setAuthTag(bytes.subarray(TAG_START, TEXT_START))
      try {
        const text = Buffer.concat([decipher.update(bytes.subarray(TEXT_START)), decipher.final()])
        return new Secret(text.toString('utf8'))
      } catch (cause) {
        throw unopenable('It was changed, or it belongs to another place.', cause)
      }
    },
  }
}

/** A master key as it is configured or kept: 32 bytes in base64. `GateError` INVALID_FORMAT otherwise. */
export function parseMasterKey(text: string): Secret {
  const base64 = text.trim()
  const key = Buffer.from(base64, 'base64')
  if (key.length !== KEY_BYTES || key.toString('base64') !== base64) {
    throw new GateError('INVALID_FORMAT', 'The master key is not 32 bytes in base64.', {
      hint: 'Restore the one this data was sealed with, or make one for an empty database: openssl rand -base64 32.',
    })
  }
  return new Secret(base64)
}

export const mintMasterKey = (): Secret => new Secret(randomBytes(KEY_BYTES).toString('base64'))

/** JSON keeps `['a', 'b/c']` and `['a/b', 'c']` apart. */
const associatedData = (header: Buffer, place: SecretPlace): Buffer =>
  Buffer.concat([header, Buffer.from(JSON.stringify([place.organizationId, place.purpose]))])

const unopenable = (why: string, cause?: unknown): GateError =>
  new GateError('INTERNAL_ERROR', `A stored secret does not open. ${why}`, { cause })
