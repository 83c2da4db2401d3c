-- How much is masked in what an organisation's runs keep and show. Its own secrets always are; `on` masks besides
-- what is spelled like a key, or is named as a secret and looks random.
alter table organization
  add column redaction text not null default 'on' check (redaction in ('on', 'known_only'));
