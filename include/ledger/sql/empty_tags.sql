-- Tags that this start of the run no longer asks.
select tag
from passport_ops.resting_tag
where run_id = %(run_id)s and run_started_at = %(run_started_at)s and tag = any(%(tags)s::text[]);
