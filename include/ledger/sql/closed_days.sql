-- The days that a run closes: those of its own that ended with it, as far as they were read whole, and the others that it
-- was the first to read whole.
select business_day
from passport_ops.day
where
    whole
    and (business_day = any(%(closes)s::date[]) or closed_by = %(run_id)s)
order by business_day;
