-- The last decision of a person about each of some orders.
select distinct on (order_key)
    order_key,
    action,
    reason,
    from_state
from passport_ops.decision
where order_key = any(%(order_keys)s::text[])
order by order_key asc, decision_id desc;
