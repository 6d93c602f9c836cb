-- What a run sets out to serve; written again when its extraction runs again.
insert into passport_ops.run (
    run_id, first_day, last_day, scheduled, sliced, tasks, orders, max_calls_per_order, max_unknown_per_run,
    max_duplicates_per_run, stop_after_refusals, day_began_at, max_new_links
)
values (
    %(run_id)s, %(first_day)s, %(last_day)s, %(scheduled)s, false, 0, 0, %(max_calls_per_order)s, %(max_unknown_per_run)s,
    %(max_duplicates_per_run)s, %(stop_after_refusals)s, %(day_began_at)s, %(max_new_links)s
)
on conflict (run_id) do update set
    first_day = excluded.first_day,
    last_day = excluded.last_day,
    scheduled = excluded.scheduled,
    max_calls_per_order = excluded.max_calls_per_order,
    max_unknown_per_run = excluded.max_unknown_per_run,
    max_duplicates_per_run = excluded.max_duplicates_per_run,
    stop_after_refusals = excluded.stop_after_refusals,
    day_began_at = excluded.day_began_at,
    max_new_links = excluded.max_new_links,
    planned_at = clock_timestamp();
