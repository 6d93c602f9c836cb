-- For the views of views.sql, which every migration makes anew.

comment on table passport_ops.alembic_version is 'Which migrations this database has had.';
comment on column passport_ops.alembic_version.version_num is 'The last migration.';

-- Few rows among many: what the views look for in the ledger's large tables.
create index attempt_unknown on passport_ops.attempt (tag) where outcome is null or outcome in ('unknown', 'redirected');
create index passport_odd_end on passport_ops.passport (received_at)
where state = 'ended' and (end_reason = 'duplicate' or claimed_at is not null);
create index reservation_claim_uncertain on passport_ops.reservation (order_key) where claim_uncertain;
create index unpublished_refused on passport_ops.unpublished (order_key) where refused is not null;
