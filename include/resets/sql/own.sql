-- One process at a time carries out a reset: it keeps this row locked until it finishes or dies.
select reset_id
from passport_ops.tag_reset
where reset_id = %(reset_id)s and state in ('intended', 'unknown')
for update nowait;
