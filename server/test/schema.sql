table account with (fillfactor=50)
  organization_id text not null
  stripe integer not null default 0
  included_micro bigint not null default 0
  purchased_micro bigint not null default 0
  reserved_micro bigint not null default 0
  spent_micro bigint not null default 0
  cycle_start timestamp with time zone not null
  allocated_micro bigint not null default 0
  constraint account_allocated_micro_check CHECK ((allocated_micro >= 0))
  constraint account_pkey PRIMARY KEY (organization_id, stripe)
  constraint account_reserved_micro_check CHECK ((reserved_micro >= 0))
  constraint account_spent_micro_check CHECK ((spent_micro >= 0))

table api_key
  id text not null
  organization_id text not null
  mode text not null
  tenant_id text
  name text not null
  hint text not null
  hash text not null
  scopes text[] not null
  created_at timestamp with time zone not null
  expires_at timestamp with time zone
  revoked_at timestamp with time zone
  last_used_at timestamp with time zone
  constraint api_key_hash_key UNIQUE (hash)
  constraint api_key_id_check CHECK ((id ~~ 'key\_%'::text))
  constraint api_key_mode_check CHECK ((mode = ANY (ARRAY['live'::text, 'test'::text])))
  constraint api_key_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id)
  constraint api_key_pkey PRIMARY KEY (id)
  CREATE INDEX api_key_organization ON api_key USING btree (organization_id, mode, id)

table artifact
  run_id text not null
  name text not null
  hash text not null
  bytes bigint not null
  media_type text not null
  created_at timestamp with time zone not null
  constraint artifact_hash_fkey FOREIGN KEY (hash) REFERENCES blob(hash)
  constraint artifact_pkey PRIMARY KEY (run_id, name)
  constraint artifact_run_id_fkey FOREIGN KEY (run_id) REFERENCES run(id) ON DELETE CASCADE
  CREATE INDEX artifact_blob ON artifact USING btree (hash)

table blob
  hash text not null
  bytes bigint not null
  media_type text not null
  created_at timestamp with time zone not null
  constraint blob_pkey PRIMARY KEY (hash)

table blob_chunk
  hash text not null
  n integer not null
  data bytea not null
  constraint blob_chunk_hash_fkey FOREIGN KEY (hash) REFERENCES blob(hash) ON DELETE CASCADE
  constraint blob_chunk_pkey PRIMARY KEY (hash, n)

table capacity with (fillfactor=50)
  scope text not null
  running integer not null default 0
  constraint capacity_pkey PRIMARY KEY (scope)
  constraint capacity_running_check CHECK ((running >= 0))

table credit_grant
  id text not null
  organization_id text not null
  stripe integer not null default 0
  class text not null
  micro bigint not null
  used_micro bigint not null default 0
  expired_micro bigint not null default 0
  expires_at timestamp with time zone
  constraint credit_grant_check CHECK (((used_micro + expired_micro) <= micro))
  constraint credit_grant_class_check CHECK ((class = ANY (ARRAY['included'::text, 'purchased'::text])))
  constraint credit_grant_expired_micro_check CHECK ((expired_micro >= 0))
  constraint credit_grant_id_check CHECK ((id ~~ 'txn\_%'::text))
  constraint credit_grant_pkey PRIMARY KEY (id)
  constraint credit_grant_used_micro_check CHECK ((used_micro >= 0))
  CREATE INDEX credit_grant_end ON credit_grant USING btree (expires_at) WHERE ((expires_at IS NOT NULL) AND ((used_micro + expired_micro) < micro))
  CREATE INDEX credit_grant_live ON credit_grant USING btree (organization_id, stripe) WHERE ((used_micro + expired_micro) < micro)

table delivery
  id text not null
  organization_id text not null
  mode text not null
  tenant_id text not null default ''::text
  run_id text
  event_id text not null
  event_type text not null
  seq integer
  webhook_id text
  url text not null
  attempts integer not null default 0
  created_at timestamp with time zone not null
  next_attempt_at timestamp with time zone
  claimed_until timestamp with time zone
  outcome text
  last_status integer
  last_error text
  last_attempt_at timestamp with time zone
  constraint delivery_check CHECK (((outcome IS NULL) = (next_attempt_at IS NOT NULL)))
  constraint delivery_id_check CHECK ((id ~~ 'dlv\_%'::text))
  constraint delivery_mode_check CHECK ((mode = ANY (ARRAY['live'::text, 'test'::text])))
  constraint delivery_outcome_check CHECK ((outcome = ANY (ARRAY['delivered'::text, 'refused'::text, 'gave_up'::text])))
  constraint delivery_pkey PRIMARY KEY (id)
  CREATE INDEX delivery_due ON delivery USING btree (next_attempt_at) WHERE (outcome IS NULL)
  CREATE INDEX delivery_run ON delivery USING btree (run_id, seq)

table delivery_attempt
  delivery_id text not null
  n integer not null
  at timestamp with time zone not null
  status integer
  error text
  latency_ms integer not null
  answer text
  constraint delivery_attempt_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES delivery(id) ON DELETE CASCADE
  constraint delivery_attempt_pkey PRIMARY KEY (delivery_id, n)

table git_credential
  id text not null
  organization_id text not null
  mode text not null
  host text not null
  kind text not null
  use text not null
  username text
  api_base_url text
  sealed bytea not null
  created_at timestamp with time zone not null
  last_used_at timestamp with time zone
  constraint git_credential_kind_check CHECK ((kind = ANY (ARRAY['basic'::text, 'token'::text, 'github_app'::text])))
  constraint git_credential_mode_check CHECK ((mode = ANY (ARRAY['live'::text, 'test'::text])))
  constraint git_credential_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id)
  constraint git_credential_pkey PRIMARY KEY (id)
  constraint git_credential_use_check CHECK ((use = ANY (ARRAY['read'::text, 'publish'::text])))
  CREATE INDEX git_credential_host ON git_credential USING btree (organization_id, mode, host, use)

table idempotency_key
  organization_id text not null
  mode text not null
  tenant_id text not null default ''::text
  route text not null
  key text not null
  body_hash text not null
  subject_id text not null
  status integer not null
  answer text
  created_at timestamp with time zone not null
  constraint idempotency_key_pkey PRIMARY KEY (organization_id, mode, tenant_id, route, key)
  CREATE INDEX idempotency_key_age ON idempotency_key USING btree (created_at)

table installation
  id text not null
  epoch integer not null
  master_key_id text not null
  created_at timestamp with time zone not null
  constraint installation_pkey PRIMARY KEY (id)

table lane with (fillfactor=50)
  organization_id text not null
  mode text not null
  tenant_id text not null
  agent text not null
  queued integer not null default 0
  running integer not null default 0
  weight double precision not null default 1
  tag double precision not null default 0
  virtual_time double precision not null default 0
  constraint lane_pkey PRIMARY KEY (organization_id, mode, tenant_id, agent)
  constraint lane_weight_check CHECK ((weight > (0)::double precision))
  CREATE INDEX lane_virtual_time ON lane USING btree (virtual_time)
  CREATE INDEX lane_waiting ON lane USING btree (organization_id, mode, agent, tag) WHERE (queued > 0)

table late_usage
  run_id text not null
  step integer not null
  organization_id text not null
  tenant_id text not null
  model text not null
  input_tokens bigint not null
  output_tokens bigint not null
  cached_tokens bigint not null
  cost_micro bigint not null
  at timestamp with time zone not null
  entry_id text
  constraint late_usage_cost_micro_check CHECK ((cost_micro >= 0))
  constraint late_usage_pkey PRIMARY KEY (run_id, step)
  CREATE INDEX late_usage_open ON late_usage USING btree (run_id) WHERE (entry_id IS NULL)

table ledger
  id text not null
  organization_id text not null
  stripe integer not null default 0
  kind text not null
  class text
  micro bigint not null
  run_id text
  tenant_id text not null default ''::text
  description text not null default ''::text
  at timestamp with time zone not null
  grant_id text
  constraint ledger_class_check CHECK ((class = ANY (ARRAY['included'::text, 'purchased'::text])))
  constraint ledger_id_check CHECK ((id ~~ 'txn\_%'::text))
  constraint ledger_kind_check CHECK ((kind = ANY (ARRAY['grant'::text, 'reserve'::text, 'release'::text, 'deduct'::text, 'refund'::text, 'late'::text, 'expire'::text]))) NOT VALID
  constraint ledger_pkey PRIMARY KEY (id)
  CREATE INDEX ledger_list ON ledger USING btree (organization_id, at DESC, id DESC)
  CREATE INDEX ledger_run ON ledger USING btree (run_id) WHERE (run_id IS NOT NULL)

table migration
  version integer not null
  name text not null
  sha256 text not null
  applied_at timestamp with time zone not null
  constraint migration_pkey PRIMARY KEY (version)

table organization
  id text not null
  name text not null
  created_at timestamp with time zone not null
  concurrency integer
  redaction text not null default 'on'::text
  constraint organization_concurrency_check CHECK ((concurrency > 0))
  constraint organization_id_check CHECK ((id ~~ 'org\_%'::text))
  constraint organization_pkey PRIMARY KEY (id)
  constraint organization_redaction_check CHECK ((redaction = ANY (ARRAY['on'::text, 'known_only'::text])))

table purged_run
  run_id text not null
  at timestamp with time zone not null
  is_done boolean not null default false
  constraint purged_run_pkey PRIMARY KEY (run_id)
  CREATE INDEX purged_run_open ON purged_run USING btree (run_id) WHERE (NOT is_done)

table run with (fillfactor=70)
  id text not null
  organization_id text not null
  mode text not null
  tenant_id text not null default ''::text
  agent text not null
  work_order_id text
  state text not null
  status_reason text not null
  last_seq integer not null
  commit_id bigint not null
  claim text
  worker_id text
  handed_back boolean not null default false
  due_at timestamp with time zone
  created_at timestamp with time zone not null
  fold text not null
  constraint run_id_check CHECK ((id ~~ 'run\_%'::text))
  constraint run_mode_check CHECK ((mode = ANY (ARRAY['live'::text, 'test'::text])))
  constraint run_pkey PRIMARY KEY (id)
  constraint run_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'tool_required'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'canceled'::text])))
  CREATE INDEX run_due ON run USING btree (due_at) WHERE (due_at IS NOT NULL)
  CREATE INDEX run_held ON run USING btree (worker_id) WHERE (worker_id IS NOT NULL)
  CREATE INDEX run_list ON run USING btree (organization_id, mode, created_at DESC, id DESC)
  CREATE INDEX run_loose ON run USING btree (id) WHERE ((state = 'running'::text) AND (worker_id IS NULL))
  CREATE INDEX run_open_order ON run USING btree (work_order_id) WHERE ((work_order_id IS NOT NULL) AND (state = ANY (ARRAY['queued'::text, 'running'::text, 'tool_required'::text, 'waiting_approval'::text])))
  CREATE INDEX run_order ON run USING btree (work_order_id, id DESC) WHERE (work_order_id IS NOT NULL)
  CREATE INDEX run_tenant_list ON run USING btree (organization_id, mode, tenant_id, created_at DESC, id DESC) WHERE (tenant_id <> ''::text)
  CREATE INDEX run_waiting ON run USING btree (organization_id, mode, tenant_id, agent, id) WHERE (state = 'queued'::text)

table run_body
  run_id text not null
  facts text not null
  constraint run_body_pkey PRIMARY KEY (run_id)

table run_event partition by RANGE (at)
  run_id text not null
  first_seq integer not null
  last_seq integer not null
  commit_id bigint not null
  xid xid8 not null default pg_current_xact_id()
  epoch integer not null
  at timestamp with time zone not null
  events text
  blob_hash text
  constraint run_event_check CHECK (((events IS NULL) <> (blob_hash IS NULL)))
  constraint run_event_pkey PRIMARY KEY (run_id, first_seq, at)
  CREATE INDEX run_event_blob ON ONLY run_event USING btree (blob_hash) WHERE (blob_hash IS NOT NULL)
  CREATE INDEX run_event_feed ON ONLY run_event USING btree (epoch, xid)

table run_event_rest partition of run_event DEFAULT

table run_outcome
  run_id text not null
  outcome text not null
  constraint run_outcome_pkey PRIMARY KEY (run_id)

table step
  run_id text not null
  n integer not null
  part text collate "C" not null
  kind text not null
  record text not null
  constraint step_kind_check CHECK ((kind = ANY (ARRAY['step'::text, 'tool'::text, 'feedback'::text])))
  constraint step_pkey PRIMARY KEY (run_id, n, part)

table webhook_secret
  organization_id text not null
  tenant_id text not null default ''::text
  mode text not null
  sealed bytea not null
  previous_sealed bytea
  previous_until timestamp with time zone
  updated_at timestamp with time zone not null
  constraint webhook_secret_pkey PRIMARY KEY (organization_id, tenant_id, mode)

table work_order
  id text not null
  organization_id text not null
  mode text not null
  tenant_id text not null default ''::text
  created_at timestamp with time zone not null
  run_id text not null
  constraint work_order_id_check CHECK ((id ~~ 'wo\_%'::text))
  constraint work_order_pkey PRIMARY KEY (id)
  CREATE INDEX work_order_list ON work_order USING btree (organization_id, mode, created_at DESC, id DESC)

table worker
  id text not null
  started_at timestamp with time zone not null
  lease_until timestamp with time zone not null
  boot_id text not null
  pid integer not null
  pid_started text not null
  constraint worker_pkey PRIMARY KEY (id)
