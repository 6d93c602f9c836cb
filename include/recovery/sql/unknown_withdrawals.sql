-- Of the orders whose links were withdrawn: those that have no kept-back link in the ledger.
select named.order_key
from unnest(%(order_keys)s::text[]) as named (order_key)
where
    not exists (
        select
        from passport_ops.passport as held
        where held.order_key = named.order_key and held.state = 'assigned' and held.kept_back
    )
order by named.order_key;
