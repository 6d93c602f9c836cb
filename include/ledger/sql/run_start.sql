-- A start of a run, the pace, the new links, and how many calls are under way, read after the grant lock is taken. Calls
-- count, not orders: an order may have been served by a late link while its next call is still under way.
with under_way as (
    select
        run_id,
        run_started_at
    from passport_ops.attempt
    where outcome is null and lease_until > clock_timestamp()
),

today as (
    select (clock_timestamp() at time zone %(timezone)s)::date as clock_day
)

select
    started.stop_reason,
    planned.max_calls_per_order,
    planned.stop_after_refusals,
    planned.max_new_links,
    today.clock_day,
    gate.next_call_at,
    gate.paused_until,
    now() as began_at,
    clock_timestamp() as read_at,
    started.opened_at is not null as opened,
    (
        select coalesce(sum(counted.links), 0)::integer
        from passport_ops.new_links as counted
        where counted.run_id = %(run_id)s
    ) as links_of_run,
    (
        select coalesce(sum(counted.links), 0)::integer
        from passport_ops.new_links as counted
        where counted.clock_day = today.clock_day
    ) as links_of_day,
    (select count(*) from under_way) as calls,
    (
        select count(*)
        from under_way
        where under_way.run_id = %(run_id)s and under_way.run_started_at = %(run_started_at)s
    ) as own_calls
from passport_ops.run_attempt as started
inner join passport_ops.run as planned on started.run_id = planned.run_id
cross join passport_ops.gate as gate
cross join today
where started.run_id = %(run_id)s and started.run_started_at = %(run_started_at)s;
