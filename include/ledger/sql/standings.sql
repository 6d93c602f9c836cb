-- Where some orders stand.
select
    order_key,
    state,
    reason
from passport_ops.reservation
where order_key = any(%(order_keys)s::text[]);
