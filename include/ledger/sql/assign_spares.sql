-- Spares become these orders' own.
update passport_ops.passport as spare
set
    state = 'assigned',
    order_key = served.order_key
from unnest(%(passport_ids)s::bigint[], %(order_keys)s::text[]) as served (passport_id, order_key)
where spare.passport_id = served.passport_id and spare.state = 'spare'
returning spare.passport_id;
