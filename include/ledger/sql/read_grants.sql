-- The identity of this ledger, how many grants it counts, and whether it still has the last call that the caller knows
-- of: its intent and, if the caller settled it, its outcome.
select
    gate.warehouse_id,
    gate.grants,
    gate.went_back_at is not null as went_back,
    coalesce(gate.remembered, 0) as remembered,
    %(attempt_id)s::bigint is null
    or exists (
        select
        from passport_ops.attempt as last
        where
            last.attempt_id = %(attempt_id)s
            and last.intent_id = %(intent_id)s
            and (last.outcome is not null or not %(settled)s)
    ) as has_last_call
from passport_ops.gate as gate;
