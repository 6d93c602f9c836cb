-- A recovery begins: what engines and Airflow remember of this ledger counts no more, and grants go on.
with counted as (
    select
        grants,
        remembered
    from passport_ops.gate
    for update
),

begun as (
    insert into passport_ops.recovery (since, begun_by, grants, remembered)
    select
        %(since)s,
        %(by)s,
        counted.grants,
        counted.remembered
    from counted
    returning recovery_id
)

update passport_ops.gate
set
    warehouse_id = gen_random_uuid(),
    went_back_at = null,
    remembered = null
from begun
returning begun.recovery_id;
