-- A stop needs several refusals, and the budgets of all scheduled runs of a clock day are one. What counts is read from
-- the calls themselves, so no counter is kept beside them.
alter table passport_ops.run add column stop_after_refusals integer not null default 3;
alter table passport_ops.run add column day_began_at timestamptz;
comment on column passport_ops.run.stop_after_refusals is
'So many refusals in a row stop a run start that had a usable answer; and so often an order may be refused in it.';
comment on column passport_ops.run.day_began_at is
'When the clock day of its plan began in the shop''s time zone: since then the calls of all scheduled runs count.';
comment on column passport_ops.run.max_calls_per_order is
'Calls of possible consumption per order: in the run start or, if scheduled, that day.';
comment on column passport_ops.run.max_unknown_per_run is
'Unknown outcomes after which a run start stops calling; 2 % of the calls, where that is more.';
comment on column passport_ops.run.max_duplicates_per_run is 'Duplicate certificates after which a run start stops calling.';

alter table passport_ops.run_attempt drop column unknown_count, drop column duplicate_count;
alter table passport_ops.run_attempt add column counts_from timestamptz not null default clock_timestamp();
update passport_ops.run_attempt set counts_from = run_started_at;
comment on column passport_ops.run_attempt.counts_from is
'Since when calls count for its budgets: of all scheduled runs if it is of one, else its own.';

drop index passport_ops.attempt_run;
create index attempt_run on passport_ops.attempt (run_id, run_started_at, answered_at);
create index attempt_refused on passport_ops.attempt (run_id, run_started_at)
where outcome in ('refused', 'redirected', 'duplicate');
create index attempt_unsure on passport_ops.attempt (intended_at)
where outcome in ('unknown', 'redirected');
-- Calls are only ever appended, so their times lie in order in the table.
create index attempt_intended on passport_ops.attempt using brin (intended_at);
