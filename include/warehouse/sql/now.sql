-- The time by the database's clock.
select clock_timestamp() as now;
