-- The first shape of the house: who may call, what was asked, what happened, what it cost, what is owed.
-- No statement says now(): every time comes from the caller, so that tests and replicas agree on it.

-- Who owns everything else. One row is made at first start.
create table organization (
  id          text primary key check (id like 'org\_%'),
  name        text not null,
  created_at  timestamptz not null,
  -- How many runs may work at once; null takes the configured default.
  concurrency int check (concurrency > 0)
);

-- Keys are stored hashed and shown once.
create table api_key (
  id              text primary key check (id like 'key\_%'),
  organization_id text not null references organization,
  mode            text not null check (mode in ('live', 'test')),
  tenant_id       text,
  name            text not null,
  hint            text not null,
  hash            text not null unique,
  scopes          text[] not null,
  created_at      timestamptz not null,
  expires_at      timestamptz,
  revoked_at      timestamptz,
  last_used_at    timestamptz
);
create index api_key_organization on api_key (organization_id, mode, id);

-- Credentials of git hosts: sealed with the master key, used only by the worker's own git.
create table git_credential (
  id              text primary key,
  organization_id text not null references organization,
  mode            text not null check (mode in ('live', 'test')),
  host            text not null,
  kind            text not null check (kind in ('basic', 'token', 'github_app')),
  use             text not null check (use in ('read', 'publish')),
  username        text,
  api_base_url    text,
  sealed          bytea not null,
  created_at      timestamptz not null,
  last_used_at    timestamptz
);
create index git_credential_host on git_credential (organization_id, mode, host, use);

-- The default secret that webhooks of an organisation (or of a tenant) are signed with.
create table webhook_secret (
  organization_id text not null,
  tenant_id       text not null default '',
  mode            text not null,
  sealed          bytea not null,
  previous_sealed bytea,
  previous_until  timestamptz,
  updated_at      timestamptz not null,
  primary key (organization_id, tenant_id, mode)
);

-- Answers already given, so that the same key gets the same answer. Rows about runs carry no answer: it is
-- presented anew from the stored event.
create table idempotency_key (
  organization_id text not null,
  mode            text not null,
  tenant_id       text not null default '',
  route           text not null,
  key             text not null,
  body_hash       text not null,
  subject_id      text not null,
  status          int not null,
  answer          text,
  created_at      timestamptz not null,
  primary key (organization_id, mode, tenant_id, route, key)
);
create index idempotency_key_age on idempotency_key (created_at);

-- One row per run: the narrow, hot part. `fold` is the rest of the fold, as JSON text; all that never
-- changes is in run_body. Nothing that a middle step changes is indexed.
create table run (
  id              text primary key check (id like 'run\_%'),
  organization_id text not null,
  mode            text not null check (mode in ('live', 'test')),
  tenant_id       text not null default '',
  agent           text not null,
  work_order_id   text,
  state           text not null check (state in
                    ('queued', 'running', 'tool_required', 'waiting_approval', 'completed', 'failed', 'canceled')),
  status_reason   text not null,
  last_seq        int not null,
  commit_id       bigint not null,
  -- The holder. A run that works without one, or whose worker's lease is over, may be claimed.
  claim           text,
  worker_id       text,
  handed_back     boolean not null default false,
  due_at          timestamptz,
  created_at      timestamptz not null,
  fold            text not null
) with (fillfactor = 70);
create index run_list on run (organization_id, mode, created_at desc, id desc);
create index run_order on run (work_order_id, id desc) where work_order_id is not null;
create index run_waiting on run (organization_id, mode, tenant_id, agent, id) where state = 'queued';
create index run_held on run (worker_id) where worker_id is not null;
create index run_loose on run (id) where state = 'running' and worker_id is null;
create index run_due on run (due_at) where due_at is not null;

-- What was asked for: written once, never changed.
create table run_body (
  run_id text primary key,
  facts  text not null
);

-- How a run ended: written once, with its final event.
create table run_outcome (
  run_id  text primary key,
  outcome text not null
);

-- The log. One row per decision holds its events, one JSON envelope per line, as they are sent to every
-- reader. Gap-free: first_seq is the previous last_seq plus one. xid gives readers commit order. Packs of
-- more than 32 KB stand in blob, by hash.
create table run_event (
  run_id    text not null,
  first_seq int not null,
  last_seq  int not null,
  commit_id bigint not null,
  xid       xid8 not null default pg_current_xact_id(),
  epoch     int not null,
  at        timestamptz not null,
  events    text,
  blob_hash text,
  primary key (run_id, first_seq, at),
  check ((events is null) <> (blob_hash is null))
) partition by range (at);
create table run_event_rest partition of run_event default;
create index run_event_feed on run_event (epoch, xid);

-- The private journal: what a model answered and what its tools returned, as they were. Never presented.
create table step (
  run_id text not null,
  n      int not null,
  part   text collate "C" not null,
  kind   text not null check (kind in ('step', 'tool', 'feedback')),
  record text not null,
  primary key (run_id, n, part)
);

-- A client's order: its newest run says how it stands.
create table work_order (
  id              text primary key check (id like 'wo\_%'),
  organization_id text not null,
  mode            text not null,
  tenant_id       text not null default '',
  created_at      timestamptz not null,
  run_id          text not null
);
create index work_order_list on work_order (organization_id, mode, created_at desc, id desc);

-- Who waits for a turn, and how far each has come. One row per organisation, mode, tenant and agent.
create table lane (
  organization_id text not null,
  mode            text not null,
  tenant_id       text not null,
  agent           text not null,
  queued          int not null default 0,
  running         int not null default 0,
  weight          double precision not null default 1 check (weight > 0),
  -- How far the lane has come, and the latest virtual time it was dispatched at.
  tag             double precision not null default 0,
  virtual_time    double precision not null default 0,
  primary key (organization_id, mode, tenant_id, agent)
) with (fillfactor = 50);

-- Runs at work within a scope that has a cap. Claims and births lock these rows, so no cap is ever exceeded.
create table capacity (
  scope   text primary key,
  running int not null default 0 check (running >= 0)
) with (fillfactor = 50);

-- Processes that work. A run whose worker's lease is over is an orphan.
create table worker (
  id         text primary key,
  started_at timestamptz not null,
  lease_until timestamptz not null,
  boot_id    text not null,
  pid        int not null,
  pid_started text not null
);

-- Money, in micro-credits. available = included + purchased - reserved - spent.
create table account (
  organization_id text not null,
  stripe          int not null default 0,
  included_micro  bigint not null default 0,
  purchased_micro bigint not null default 0,
  reserved_micro  bigint not null default 0 check (reserved_micro >= 0),
  spent_micro     bigint not null default 0 check (spent_micro >= 0),
  cycle_start     timestamptz not null,
  primary key (organization_id, stripe)
) with (fillfactor = 50);

create table ledger (
  id              text primary key check (id like 'txn\_%'),
  organization_id text not null,
  stripe          int not null default 0,
  kind            text not null check (kind in ('grant', 'reserve', 'release', 'deduct', 'refund', 'late')),
  -- Of a grant: what it was given as.
  class           text check (class in ('included', 'purchased')),
  micro           bigint not null,
  run_id          text,
  tenant_id       text not null default '',
  description     text not null default '',
  at              timestamptz not null
);
create index ledger_list on ledger (organization_id, at desc, id desc);
create index ledger_run on ledger (run_id) where run_id is not null;

-- Every announcement the outside world is owed, written with the event it announces. Read by the relay,
-- which asks one question: what is due?
create table delivery (
  id              text primary key check (id like 'dlv\_%'),
  organization_id text not null,
  mode            text not null check (mode in ('live', 'test')),
  tenant_id       text not null default '',
  run_id          text,
  event_id        text not null,
  event_type      text not null,
  seq             int,
  webhook_id      text,
  url             text not null,
  attempts        int not null default 0,
  created_at      timestamptz not null,
  next_attempt_at timestamptz,
  claimed_until   timestamptz,
  outcome         text check (outcome in ('delivered', 'refused', 'gave_up')),
  last_status     int,
  last_error      text,
  last_attempt_at timestamptz,
  check ((outcome is null) = (next_attempt_at is not null))
);
create index delivery_due on delivery (next_attempt_at) where outcome is null;
create index delivery_run on delivery (run_id, seq);

create table delivery_attempt (
  delivery_id text not null references delivery on delete cascade,
  n           int not null,
  at          timestamptz not null,
  status      int,
  error       text,
  latency_ms  int not null,
  answer      text,
  primary key (delivery_id, n)
);

-- Bytes by content: written before whatever names them.
create table blob (
  hash       text primary key,
  bytes      bigint not null,
  media_type text not null,
  created_at timestamptz not null
);
create table blob_chunk (
  hash text not null references blob on delete cascade,
  n    int not null,
  data bytea not null,
  primary key (hash, n)
);

-- What a run leaves behind for people: diff, logs, gate reports, transcript.
create table artifact (
  run_id     text not null references run on delete cascade,
  name       text not null,
  hash       text not null references blob,
  bytes      bigint not null,
  media_type text not null,
  created_at timestamptz not null,
  primary key (run_id, name)
);
create index artifact_blob on artifact (hash);

-- Facts about the database itself: the log's epoch, and which master key its secrets are sealed with.
create table installation (
  id            text primary key,
  epoch         int not null,
  master_key_id text not null,
  created_at    timestamptz not null
);
