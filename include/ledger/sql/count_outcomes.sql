-- What the outcomes of its calls do to a start of a run: a usable answer opens it, some answers stop it at once, and
-- others when there are too many of them. The first reason is kept.
with start as (
    select
        started.run_id,
        started.run_started_at,
        started.counts_from,
        planned.scheduled,
        planned.stop_after_refusals,
        planned.max_unknown_per_run,
        planned.max_duplicates_per_run,
        started.opened_at is not null or %(usable)s as opened
    from passport_ops.run_attempt as started
    inner join passport_ops.run as planned on started.run_id = planned.run_id
    where started.run_id = %(run_id)s and started.run_started_at = %(run_started_at)s
),

-- Newest first. The key, its rights, the method and a redirect concern every call; any other 4xx may be of its tag alone.
refusals as (
    select
        call.attempt_id,
        call.answered_at,
        call.detail,
        case
            when call.outcome = 'refused' and coalesce(call.status not in (401, 403, 405), true) then call.tag
        end as only_tag
    from passport_ops.attempt as call
    inner join start on call.run_id = start.run_id and call.run_started_at = start.run_started_at
    where call.outcome in ('refused', 'redirected')
),

numbered as (
    select
        only_tag,
        answered_at,
        row_number() over newest_first as place,
        first_value(detail) over newest_first as latest_detail
    from refusals
    window newest_first as (partition by only_tag order by answered_at desc, attempt_id desc)
),

refused as (
    select numbered.latest_detail
    from numbered
    inner join start on numbered.place = start.stop_after_refusals
    where
        not exists (
            select from passport_ops.attempt as usable
            where
                usable.run_id = start.run_id
                and usable.run_started_at = start.run_started_at
                and usable.answered_at >= numbered.answered_at
                and usable.outcome in ('reserved', 'out_of_stock', 'duplicate', 'spare', 'ended')
                and (numbered.only_tag is null or usable.tag = numbered.only_tag)
        )
    order by numbered.answered_at desc
    limit 1
),

counted as materialized (
    select
        (
            select count(*)
            from passport_ops.attempt as call
            inner join passport_ops.run as asked on call.run_id = asked.run_id
            where
                call.outcome in ('unknown', 'redirected')
                and call.intended_at >= start.counts_from
                and (
                    (call.run_id = start.run_id and call.run_started_at = start.run_started_at)
                    or (start.scheduled and asked.scheduled)
                )
        ) as unknown,
        (
            select count(*)
            from passport_ops.attempt as call
            where
                call.outcome = 'duplicate'
                and call.run_id = start.run_id
                and call.run_started_at = start.run_started_at
        ) as duplicates
    from start
),

stop as (
    select
        start.opened,
        case
            when %(stop_reason)s::text is not null then %(stop_reason)s::text
            when not start.opened and %(refusal)s::text is not null then %(refusal)s::text
            when exists (select from refused)
                then
                    (select latest_detail from refused) || ' (' || start.stop_after_refusals
                    || ' such answers came, and no usable one between them: stop_after_refusals)'
            when
                counted.unknown >= start.max_unknown_per_run
                and counted.unknown >= 0.02 * (
                    select count(*)
                    from passport_ops.attempt as call
                    inner join passport_ops.run as asked on call.run_id = asked.run_id
                    where
                        call.intended_at >= start.counts_from
                        and (
                            (call.run_id = start.run_id and call.run_started_at = start.run_started_at)
                            or (start.scheduled and asked.scheduled)
                        )
                )
                then
                    counted.unknown || ' calls of unknown outcome'
                    || case when start.scheduled then ' in the scheduled runs of this day' else '' end
                    || ' (max_unknown_per_run is ' || start.max_unknown_per_run
                    || ', or 2 %% of the calls): see whether the NMP is well, then clear the run'
            when counted.duplicates >= start.max_duplicates_per_run
                then
                    counted.duplicates || ' certificates came twice (max_duplicates_per_run is '
                    || start.max_duplicates_per_run || '): ask the NMP''s operator, then clear the run'
        end as reason
    from start
    cross join counted
)

update passport_ops.run_attempt as started
set
    opened_at = coalesce(started.opened_at, case when stop.opened then clock_timestamp() end),
    stopped_at = coalesce(started.stopped_at, case when stop.reason is not null then clock_timestamp() end),
    stop_reason = coalesce(started.stop_reason, stop.reason)
from stop
where started.run_id = %(run_id)s and started.run_started_at = %(run_started_at)s;
