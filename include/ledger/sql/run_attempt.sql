-- Where a run attempt stands and how many calls are under way, read after the gate is locked. Calls count, not orders:
-- an order may have been served by a late link while its next call is still under way.
with under_way as (
    select
        run_id,
        run_started_at
    from passport_ops.attempt
    where outcome is null and lease_until > clock_timestamp()
)

select
    tried.stop_reason,
    planned.max_calls_per_order,
    planned.max_unknown_per_run,
    planned.max_duplicates_per_run,
    tried.opened_at is not null as opened,
    (select count(*) from under_way) as calls_under_way,
    (
        select count(*)
        from under_way
        where under_way.run_id = %(run_id)s and under_way.run_started_at = %(run_started_at)s
    ) as own_calls_under_way
from passport_ops.run_attempt as tried
inner join passport_ops.run as planned on tried.run_id = planned.run_id
where tried.run_id = %(run_id)s and tried.run_started_at = %(run_started_at)s;
