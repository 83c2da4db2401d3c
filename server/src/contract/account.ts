import { pageQuery } from './page.ts'
import { mode } from './run.ts'
import {
  closed,
  count,
  flag,
  idOf,
  label,
  list,
  moment,
  named,
  nullable,
  oneWord,
  open,
  optional,
  Type,
  text,
} from './schema.ts'
import { SCOPES } from './scope.ts'

const scopes = list(oneWord(SCOPES, 'A scope.'), 'What the key may do.', { maxItems: 50 })

export const CreateKeyRequest = named(
  'CreateKeyRequest',
  closed({
    name: optional(label('What the key is for.')),
    mode: optional({ ...mode, description: 'Always that of the key that creates it.' }),
    scopes: optional({
      ...scopes,
      minItems: 1,
      description: 'Some of your own; all of your own when absent.',
    }),
    tenantId: optional(label('Binds the key to one tenant.')),
    expiresAt: optional(moment('When it stops working; never when absent.')),
  }),
)

export const ApiKey = named(
  'ApiKey',
  open({
    id: idOf('key', 'The key’s id, which is not the key.'),
    name: nullable(text('As given.')),
    mode,
    tenantId: nullable(text('The tenant it is bound to.')),
    hint: text('The beginning of the key, to tell keys apart.'),
    scopes: list(text('A scope.'), 'What the key may do.'),
    createdAt: moment('When it was made.'),
    expiresAt: nullable(moment('When it stops working.')),
    lastUsedAt: nullable(moment('When it was last used, to the minute.')),
    revokedAt: nullable(moment('When it was revoked.')),
  }),
)

export const CreatedKey = named(
  'CreatedKey',
  open({
    key: ApiKey,
    secret: nullable(text('The key itself. Shown once: null when the answer is given again.')),
  }),
)

export const ListKeysQuery = closed(pageQuery)

const host = Type.String({
  description: 'The host of the repositories, with a port if it has one, such as `github.com`.',
  maxLength: 255,
  pattern: String.raw`^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?$`,
})
const use = oneWord(['read', 'publish'], 'For cloning, or for pushing and opening pull requests.')

export const CreateGitCredentialRequest = named(
  'CreateGitCredentialRequest',
  closed({
    host,
    kind: oneWord(['basic', 'token'], 'A user name and password, or an access token.'),
    use,
    secret: text('The password or token. It can be written, never read.', {
      minLength: 1,
      maxLength: 10_000,
    }),
    username: optional(label('The user name; needed for `basic`.')),
    apiBaseUrl: optional(
      text('Where the host’s forge API is, when it is not in the usual place.', {
        minLength: 1,
        maxLength: 2000,
      }),
    ),
  }),
)

export const GitCredential = named(
  'GitCredential',
  open({
    id: idOf('cred', 'The credential.'),
    host: text('As given.'),
    kind: text('As given.'),
    use,
    username: nullable(text('As given.')),
    apiBaseUrl: nullable(text('As given.')),
    createdAt: moment('When it was stored.'),
    lastUsedAt: nullable(moment('When a worker last used it.')),
  }),
)

export const ListGitCredentialsQuery = closed({
  ...pageQuery,
  host: optional(label('Only credentials of this host.')),
})

export const CreditBalance = named(
  'CreditBalance',
  open(
    {
      includedCreditsCents: count('What is left of the included credits.'),
      purchasedCreditsCents: count('What is left of the purchased credits.'),
      totalCreditsCents: count('Both together, reserved ones among them.'),
      reservedCreditsCents: count('Held for runs that are under way.'),
      billingCycleStart: moment('When the billing cycle began.'),
      billingCycleEnd: moment('When it ends.'),
    },
    'One credit is one cent. Test mode costs nothing and has a balance of zero.',
  ),
)

const transactionType = oneWord(['deduction', 'purchase', 'refund', 'grant'], 'What moved the balance.')

export const CreditTransaction = named(
  'CreditTransaction',
  open({
    id: idOf('txn', 'The transaction.'),
    type: transactionType,
    amountCents: Type.Integer({
      description:
        'Credits added; negative for a deduction, and for what was taken back of a grant that ended.',
    }),
    runId: nullable(idOf('run', 'The run it paid for.')),
    description: text('What it was for.'),
    expiresAt: nullable(moment('Of a grant: when what is left of it, and not reserved, is taken back.')),
    createdAt: moment('When it was booked.'),
  }),
)

export const CreditUsage = open({
  transactions: list(CreditTransaction, 'Newest first.'),
  total: count('How many there are, exact up to 10,000.'),
  totalCapped: optional(flag('True when there are more than `total` says.')),
  limit: count('The limit in force.'),
  offset: count('The offset in force.'),
})

export const CreditUsageQuery = closed({
  limit: optional({ ...count('Transactions per page.', { minimum: 1, maximum: 100 }), default: 50 }),
  offset: optional({ ...count('Transactions to skip.', { maximum: 10_000 }), default: 0 }),
  type: optional(transactionType),
  runId: optional(text('Only what this run cost.', { maxLength: 64 })),
  createdAfter: optional(moment('Only what was booked at or after this time.')),
  createdBefore: optional(moment('Only what was booked before this time.')),
})

export const CreateGrantRequest = named(
  'CreateGrantRequest',
  closed({
    amountCents: count('Credits to add.', { minimum: 1, maximum: 1_000_000_000 }),
    type: optional({
      ...oneWord(['grant', 'purchase'], 'Included credits, or purchased ones.'),
      default: 'grant',
    }),
    reason: optional(label('What it is for.')),
    expiresAt: optional(
      moment(
        'When what is left of it, and not reserved, is taken back; never when absent. Of credits of one type those ' +
          'that end first are spent first.',
      ),
    ),
  }),
)

export const WebhookSecret = named(
  'WebhookSecret',
  open({
    secret: nullable(
      text('`whsec_` and base64. Null when the answer to a rotation is given again: ask for it with GET.'),
    ),
    previousSecretUntil: nullable(
      moment('Until when deliveries also carry the signature of the secret before.'),
    ),
  }),
)

export const RotateWebhookSecretRequest = named(
  'RotateWebhookSecretRequest',
  closed({ finish: optional(flag('Do not make a new secret; end the overlap of the last rotation now.')) }),
)
