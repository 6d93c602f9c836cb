-- The unserved orders of the run's day and, for a scheduled run, those carried over, oldest first: one task each up to
-- the limit, else dealt round among the slices. A held order waits for a person, so no task serves it. Inserted by key,
-- for each row shares its order, and all writers lock orders by key.
with unserved as (
    select
        order_key,
        row_number() over (order by business_day, paid_at, order_key) - 1 as place,
        count(*) over () as orders
    from passport_ops.reservation
    where
        state in ('pending', 'calling', 'out_of_stock', 'unknown')
        and (%(campaigns)s::text[] is null or campaign = any(%(campaigns)s::text[]))
        and (
            business_day = %(business_day)s
            or (
                %(scheduled)s
                and business_day < %(business_day)s
                and (carry_until is null or carry_until >= %(business_day)s)
            )
        )
)

insert into passport_ops.run_order (run_id, task_index, order_key)
select
    %(run_id)s,
    case when orders > %(per_order_limit)s then mod(place, least(%(max_tasks)s, orders)) else place end,
    order_key
from unserved
order by order_key;
