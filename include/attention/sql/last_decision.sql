-- The last decision of a person about the order.
select
    action,
    reason,
    from_state
from passport_ops.decision
where order_key = %(order_key)s
order by decision_id desc
limit 1;
