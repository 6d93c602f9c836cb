-- Grants, stops and rests happen one after another.
select one
from passport_ops.gate
for update;
