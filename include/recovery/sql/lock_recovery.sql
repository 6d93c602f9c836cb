-- One step of a recovery at a time.
select recovery_id
from passport_ops.recovery
where ended_at is null
for update;
