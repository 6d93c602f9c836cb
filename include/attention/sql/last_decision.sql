-- What a person last decided about the order.
select
    action,
    reason,
    from_state,
    to_state
from passport_ops.decision
where order_key = %(order_key)s
order by decision_id desc
limit 1;
