-- Those of some orders that the ledger knows.
select order_key
from passport_ops.reservation
where order_key = any(%(order_keys)s::text[]);
