-- The first grant of a run's start makes its row. The first start of a scheduled run counts since its clock day began, or
-- since the budgets of that day were renewed; every other start renews them: it counts from now.
insert into passport_ops.run_attempt (run_id, run_started_at, counts_from)
select
    planned.run_id,
    %(run_started_at)s,
    case
        when
            planned.scheduled and planned.day_began_at is not null
            and not exists (
                select from passport_ops.run_attempt as earlier
                where earlier.run_id = planned.run_id
            )
            then greatest(
                planned.day_began_at,
                (
                    select max(renewed.counts_from)
                    from passport_ops.run_attempt as renewed
                    inner join passport_ops.run as scheduled on renewed.run_id = scheduled.run_id
                    where scheduled.scheduled and renewed.counts_from > planned.day_began_at
                )
            )
        else clock_timestamp()
    end
from passport_ops.run as planned
where
    planned.run_id = %(run_id)s
    and not exists (
        select from passport_ops.run_attempt as known
        where known.run_id = %(run_id)s and known.run_started_at = %(run_started_at)s
    )
on conflict do nothing
returning true;
