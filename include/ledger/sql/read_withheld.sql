-- The links of withheld passports, to be read as if they had just arrived.
select
    held.attempt_id,
    held.link
from passport_ops.passport as held
inner join passport_ops.attempt as call on held.attempt_id = call.attempt_id and held.order_key = call.order_key
where held.state = 'withheld' and call.attempt_id = any(%(attempt_ids)s::bigint[]);
