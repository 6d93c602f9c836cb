-- The database's clock decides what was first.
select clock_timestamp() as now;
