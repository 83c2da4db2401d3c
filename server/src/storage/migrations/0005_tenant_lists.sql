-- The runs of one tenant among those of many, newest first; without it a small tenant's list reads everybody's.
create index run_tenant_list on run (organization_id, mode, tenant_id, created_at desc, id desc) where tenant_id <> '';
