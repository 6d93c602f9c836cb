-- A limit lets orders of a run wait; the first one of its day is kept.
insert into passport_ops.new_links as counted (run_id, clock_day, links, limit_reached, limit_reached_at)
values (%(run_id)s, %(clock_day)s, 0, %(limit_reached)s, clock_timestamp())
on conflict (run_id, clock_day) do update set
    limit_reached = excluded.limit_reached,
    limit_reached_at = excluded.limit_reached_at
where counted.limit_reached is null;
