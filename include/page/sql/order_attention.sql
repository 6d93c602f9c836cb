-- Why some orders, or a row of the shop that is not taken, need attention.
with found as (
    select
        kind,
        order_key,
        tag,
        row_key,
        run_id,
        since,
        reason,
        what_to_do
    from passport.needs_attention
    where order_key = any(%(keys)s)
    union all
    select
        'rejected' as kind,
        order_key,
        null as tag,
        row_key,
        null as run_id,
        seen_at as since,
        reason || ': ' || detail as reason,
        'correct the order in the shop, or the campaigns; the next reading of its day takes it' as what_to_do
    from passport.rejected
    where (order_key = any(%(keys)s) or row_key = any(%(keys)s)) and gone_at is null
)

select
    found.*,
    1 as of_kind
from found
order by found.since desc
limit %(rows)s
