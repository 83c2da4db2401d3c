-- Credits that end, and usage that came after the end of its run.

-- What was given, and how much of it is gone. Grants are used up in an order: included before purchased, the one that
-- ends sooner first. The account's totals stay what a reservation is checked against.
create table credit_grant (
  id              text primary key check (id like 'txn\_%'),
  organization_id text not null,
  stripe          int not null default 0,
  class           text not null check (class in ('included', 'purchased')),
  micro           bigint not null,
  used_micro      bigint not null default 0 check (used_micro >= 0),
  expired_micro   bigint not null default 0 check (expired_micro >= 0),
  expires_at      timestamptz,
  check (used_micro + expired_micro <= micro)
);
create index credit_grant_live on credit_grant (organization_id, stripe) where used_micro + expired_micro < micro;
create index credit_grant_end on credit_grant (expires_at)
  where expires_at is not null and used_micro + expired_micro < micro;

insert into credit_grant (id, organization_id, stripe, class, micro)
  select id, organization_id, stripe, class, micro from ledger where kind = 'grant';

-- What a model call used that its run could no longer be told: the run had ended, or another worker held it. Once the
-- run is final it is booked as an entry of its own, and the run stays as it is.
create table late_usage (
  run_id          text not null,
  step            int not null,
  organization_id text not null,
  tenant_id       text not null,
  model           text not null,
  input_tokens    bigint not null,
  output_tokens   bigint not null,
  cached_tokens   bigint not null,
  -- By the prices of the run, before rounding.
  cost_micro      bigint not null check (cost_micro >= 0),
  at              timestamptz not null,
  entry_id        text,
  primary key (run_id, step)
);
create index late_usage_open on late_usage (run_id) where entry_id is null;

-- Of what was spent, how much stands on grants. The rest is put there, in their order, before the grants change.
alter table account add column allocated_micro bigint not null default 0 check (allocated_micro >= 0);

-- Which grant an expiry takes from. Every row there is meets the wider list, so none has to be read.
alter table ledger add column grant_id text;
alter table ledger drop constraint ledger_kind_check;
alter table ledger add constraint ledger_kind_check
  check (kind in ('grant', 'reserve', 'release', 'deduct', 'refund', 'late', 'expire')) not valid;
