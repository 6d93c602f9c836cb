-- The unknown outcomes and duplicates of a run's start, its opening and its stop: the first reason is kept.
update passport_ops.run_attempt as tried
set
    unknown_count = tried.unknown_count + %(unknown)s,
    duplicate_count = tried.duplicate_count + %(duplicates)s,
    opened_at = coalesce(tried.opened_at, case when %(usable)s then clock_timestamp() end),
    stopped_at = coalesce(tried.stopped_at, case when stop.reason is not null then clock_timestamp() end),
    stop_reason = coalesce(tried.stop_reason, stop.reason)
from (
    select
        case
            when %(stop_reason)s::text is not null then %(stop_reason)s::text
            when now_tried.unknown_count + %(unknown)s >= planned.max_unknown_per_run
                then
                    now_tried.unknown_count + %(unknown)s || ' calls of unknown outcome (max_unknown_per_run is '
                    || planned.max_unknown_per_run || '): see whether the NMP is well, then clear the run'
            when now_tried.duplicate_count + %(duplicates)s >= planned.max_duplicates_per_run
                then
                    now_tried.duplicate_count + %(duplicates)s || ' certificates came twice (max_duplicates_per_run is '
                    || planned.max_duplicates_per_run || '): ask the NMP''s operator, then clear the run'
        end as reason
    from passport_ops.run_attempt as now_tried
    inner join passport_ops.run as planned on now_tried.run_id = planned.run_id
    where now_tried.run_id = %(run_id)s and now_tried.run_started_at = %(run_started_at)s
) as stop
where tried.run_id = %(run_id)s and tried.run_started_at = %(run_started_at)s;
