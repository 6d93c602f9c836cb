-- Whether the tasks of a run serve slices; no row for a run that was never planned.
select sliced
from passport_ops.run
where run_id = %(run_id)s;
