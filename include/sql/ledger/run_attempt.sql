-- Where a run attempt stands and how many calls are under way, read after the gate is locked.
select
    tried.stop_reason,
    planned.max_calls_per_order,
    planned.max_unknown_per_run,
    planned.max_duplicates_per_run,
    tried.opened_at is not null as opened,
    (
        select count(*)
        from passport_ops.reservation
        where state = 'calling' and lease_until > clock_timestamp()
    ) as calls_under_way,
    (
        select count(*)
        from passport_ops.reservation as leased
        inner join passport_ops.attempt as call on leased.order_key = call.order_key and leased.fence = call.fence
        where
            leased.state = 'calling'
            and leased.lease_until > clock_timestamp()
            and call.run_id = %(run_id)s
            and call.run_started_at = %(run_started_at)s
    ) as own_calls_under_way
from passport_ops.run_attempt as tried
inner join passport_ops.run as planned on tried.run_id = planned.run_id
where tried.run_id = %(run_id)s and tried.run_started_at = %(run_started_at)s;
