-- The orders of the calls that were answered, locked in one order for all. Read afterwards, with ledger/answered_calls:
-- a statement that waits for a lock still sees the other tables as they were before.
select known.order_key
from passport_ops.reservation as known
where
    known.order_key in (
        select call.order_key
        from passport_ops.attempt as call
        where call.attempt_id = any(%(attempt_ids)s::bigint[])
    )
order by known.order_key
for update of known;
