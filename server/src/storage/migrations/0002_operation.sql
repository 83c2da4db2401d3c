-- What keeping house needs: runs whose time is over, and what still names a blob.

-- Runs whose log, journal and artifacts were removed after their time. What was asked, how it ended and what it
-- cost (run, run_body, run_outcome, work_order, ledger) stays. The row comes first: from then on the events of the
-- run are answered as purged, however far the removal has come.
create table purged_run (
  run_id  text primary key,
  at      timestamptz not null,
  is_done boolean not null default false
);
create index purged_run_open on purged_run (run_id) where not is_done;

create index run_event_blob on run_event (blob_hash) where blob_hash is not null;

-- The runs whose fold may name a bundle that another machine would go on from.
create index run_open_order on run (work_order_id)
  where work_order_id is not null and state in ('queued', 'running', 'tool_required', 'waiting_approval');
