-- How many new links each run asked for on each clock day, so that a limit costs one row to read.

create table passport_ops.new_links (
    run_id text not null,
    clock_day date not null,
    links integer not null,
    limit_reached text check (limit_reached in ('max_new_links', 'max_new_links_per_day')),
    limit_reached_at timestamptz,
    primary key (run_id, clock_day)
);
create index new_links_clock_day on passport_ops.new_links (clock_day);
comment on table passport_ops.new_links is
'Per run and clock day: how many of its calls consumed a passport, or may have. Written behind the grant lock.';
comment on column passport_ops.new_links.run_id is 'The Airflow run.';
comment on column passport_ops.new_links.clock_day is 'The day of the intents by the clock, in the shop''s time zone.';
comment on column passport_ops.new_links.links is 'Calls begun, without those that certainly consumed nothing.';
comment on column passport_ops.new_links.limit_reached is
'The limit that let orders of the run wait that day: max_new_links or max_new_links_per_day; null for none.';
comment on column passport_ops.new_links.limit_reached_at is 'When it did so first.';

-- The migration does not know the shop's time zone, which matters for the calls of today only.
insert into passport_ops.new_links (run_id, clock_day, links)
select
    run_id,
    (intended_at at time zone 'UTC')::date,
    count(*)
from passport_ops.attempt
where outcome is null or outcome not in ('not_sent', 'out_of_stock', 'throttled', 'refused')
group by run_id, (intended_at at time zone 'UTC')::date;

alter table passport_ops.attempt add column clock_day date;
comment on column passport_ops.attempt.clock_day is
'The day of passport_ops.new_links on which it counts; null for calls of before that table.';
alter table passport_ops.run add column max_new_links integer;
comment on column passport_ops.run.max_new_links is 'New links that the run may ask for in all its starts; null for no limit.';
