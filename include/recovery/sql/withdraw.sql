-- The links of these orders were withdrawn since the backup, so they are not theirs any more.
with taken as (
    select
        known.order_key,
        opened.recovery_id
    from passport_ops.reservation as known
    inner join passport_ops.passport as held on known.passport_id = held.passport_id
    inner join passport_ops.recovery as opened on opened.ended_at is null
    where known.order_key = any(%(order_keys)s::text[]) and held.kept_back and known.state = 'reserved'
    order by known.order_key
    for update of known
)

update passport_ops.reservation as known
set
    state = 'reset',
    reason = 'recovery ' || taken.recovery_id || ': its link was withdrawn after the backup',
    passport_id = null,
    fence = known.fence + 1,
    reset_at = clock_timestamp(),
    updated_at = clock_timestamp()
from taken
where known.order_key = taken.order_key;
