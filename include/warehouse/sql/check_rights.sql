-- The version that the warehouse is migrated to, and whether the role may write the ledger and the published tables.
select
    (select max(version_num) from passport_ops.alembic_version) as version,
    has_table_privilege('passport_ops.reservation', 'insert, update')
    and has_table_privilege('passport_ops.answer', 'insert, delete')
    and has_table_privilege('passport.links', 'insert, update') as may_write;
