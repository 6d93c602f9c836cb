-- Raw answers that were read, or belong to no call, and were not erased; only those that cannot be read may stay.
select
    kept.attempt_id,
    call.order_key,
    call.outcome
from passport_ops.answer as kept
left join passport_ops.attempt as call on kept.attempt_id = call.attempt_id
where
    call.attempt_id is null
    or (
        call.outcome <> 'unknown'
        and not call.outcome = any(%(keeps_raw)s::text[]) -- noqa: RF02
    )
order by kept.attempt_id;
