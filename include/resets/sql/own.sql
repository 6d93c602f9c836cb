-- One process at a time carries a reset out: it keeps this row locked until it has finished, or is dead.
select reset_id
from passport_ops.tag_reset
where reset_id = %(reset_id)s and state in ('intended', 'unknown')
for update nowait;
