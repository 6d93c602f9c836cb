-- Orders move to their next state; a fence is only ever raised.
update passport_ops.reservation as known
set
    state = moved.state,
    reason = moved.reason,
    fence = moved.fence,
    lease_until = case when moved.state = 'calling' then now() + make_interval(secs => %(lease_seconds)s) end,
    passport_id = moved.passport_id,
    reserved_at = case
        when moved.state = 'reserved' and known.state <> 'reserved' then clock_timestamp() else known.reserved_at
    end,
    reset_at = case when moved.state = 'reserved' then null else known.reset_at end,
    run_id = coalesce(moved.run_id, known.run_id),
    updated_at = clock_timestamp()
from
    unnest(
        %(order_keys)s::text[], %(states)s::text[], %(reasons)s::text[], %(fences)s::bigint[],
        %(passport_ids)s::bigint[], %(run_ids)s::text[]
    ) as moved (order_key, state, reason, fence, passport_id, run_id)
where known.order_key = moved.order_key;
