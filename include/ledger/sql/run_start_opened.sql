-- Whether a start of a run had its first usable answer.
select opened_at is not null as opened
from passport_ops.run_attempt
where run_id = %(run_id)s and run_started_at = %(run_started_at)s;
