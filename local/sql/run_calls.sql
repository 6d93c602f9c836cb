-- The requests that a run sent.
select count(*) as calls
from passport_ops.attempt
where run_id = %(run_id)s and outcome is distinct from 'not_sent'
