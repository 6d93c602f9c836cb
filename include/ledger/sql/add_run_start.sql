-- The first grant of a run's start makes its row.
insert into passport_ops.run_attempt (run_id, run_started_at)
values (%(run_id)s, %(run_started_at)s)
on conflict do nothing;
