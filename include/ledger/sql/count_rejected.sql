-- How many rows are not taken.
select count(*)
from pg_temp.incoming_rejected;
