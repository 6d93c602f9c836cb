-- The first rows that are not taken, for the log.
select
    row_key,
    reason,
    detail
from pg_temp.incoming_rejected
order by row_number
limit %(most)s;
