-- Why some orders, or a row of the shop that was not taken, need attention.
select
    kind,
    order_key,
    tag,
    row_key,
    run_id,
    since,
    reason,
    what_to_do,
    1 as of_kind
from passport.needs_attention
where order_key = any(%(keys)s) or row_key = any(%(keys)s)
order by since desc
limit %(rows)s
