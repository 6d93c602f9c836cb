-- The orders of the calls that were answered, locked in one order for all. The calls are read afterwards: a statement
-- that waits for a lock sees the rows that it locks as they are then, but other tables as they were before.
select
    known.order_key,
    known.state,
    known.reason,
    known.fence,
    known.passport_id,
    known.on_unknown = 'hold' as holds_on_unknown
from passport_ops.reservation as known
where
    known.order_key in (
        select call.order_key
        from passport_ops.attempt as call
        where call.attempt_id = any(%(attempt_ids)s::bigint[])
    )
order by known.order_key
for update of known;
