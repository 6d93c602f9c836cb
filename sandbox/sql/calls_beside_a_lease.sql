-- Calls for one order, the later one begun before the other was answered and before its lease ended.
select
    former.order_key,
    former.attempt_id as former_attempt_id,
    former.intended_at as former_intended_at,
    later.attempt_id,
    later.intended_at,
    least(former.answered_at, former.lease_until) as former_over_at
from passport_ops.attempt as former
inner join passport_ops.attempt as later
    on former.order_key = later.order_key and former.attempt_id < later.attempt_id
where later.intended_at < least(former.answered_at, former.lease_until)
order by former.order_key, former.attempt_id, later.attempt_id;
