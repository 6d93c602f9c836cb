-- Passports withheld from these orders that nobody has read again since the order moved: a person released it meanwhile,
-- and the connection may accept the link by now.
select
    held.order_key,
    held.attempt_id
from passport_ops.passport as held
inner join passport_ops.reservation as known on held.order_key = known.order_key
where
    held.state = 'withheld'
    and held.order_key = any(%(order_keys)s::text[])
    and coalesce(held.read_at, held.received_at) < known.updated_at
order by held.attempt_id;
