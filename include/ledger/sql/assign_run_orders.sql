-- The orders that runs ask for, oldest first: those of the run's own days, those of days that it was the first to read
-- whole and, for a scheduled run, those carried over. One task each up to the limit, else taken in turn by the slices.
-- Inserted by key: each row shares its order, and all writers lock orders by key.
with unserved as (
    select
        order_key,
        row_number() over (order by business_day, paid_at, order_key) - 1 as place,
        count(*) over () as orders
    from passport_ops.reservation
    where
        state = any(%(asked_by_runs)s::text[])
        and (%(campaigns)s::text[] is null or campaign = any(%(campaigns)s::text[]))
        and (
            business_day = any(%(days)s::date[])
            or business_day in (
                select closed.business_day from passport_ops.day as closed
                where closed.closed_by = %(run_id)s
            )
            or (
                %(scheduled)s
                and business_day < %(first_day)s
                and (carry_until is null or carry_until >= %(first_day)s)
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
