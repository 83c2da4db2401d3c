import { closed, jsonObject, label, named, nullable, open, optional, text } from './schema.ts'

const LIMITS = { maxProperties: 50 }

export const metadata = jsonObject(
  'Your own data: any JSON values, at most 50 keys and 16 KB, returned unchanged.',
  LIMITS,
)

const tenantFields = {
  tenantId: optional(label('Your customer; first use registers it.')),
  tenantUserId: optional(label('The user of that customer.')),
  metadata: optional(jsonObject('Your own data about the two: at most 50 keys and 16 KB.', LIMITS)),
}

export const TenantContextRequest = named(
  'TenantContextRequest',
  closed(tenantFields, 'For whom this is done, in your own words.'),
)

export const TenantContext = named(
  'TenantContext',
  open(tenantFields, 'For whom this is done; {} when not said.'),
)

/** What a caller may say about a work order or a run besides the work itself. */
export const callerFields = {
  webhookUrl: optional(
    text("Gets this run's events, signed with the default webhook secret: an http or https URL.", {
      minLength: 1,
      maxLength: 2000,
    }),
  ),
  tenantContext: optional(TenantContextRequest),
  metadata: optional(metadata),
  correlationId: optional({ ...label('Your own id for tracing, 1–128 characters.'), maxLength: 128 }),
  projectId: optional(label('Your own project id; runs can be listed by it.')),
  purpose: optional(label('What the work is for, in your own words.')),
}

/** The same as they are answered. */
export const shownCallerFields = {
  tenantContext: TenantContext,
  projectId: nullable(text('As given.')),
  purpose: nullable(text('As given.')),
  metadata: jsonObject('As given; {} when nothing was.'),
  correlationId: nullable(text('As given.')),
}
