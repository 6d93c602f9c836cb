-- Who decided what about which orders, and why.
insert into passport_ops.decision (order_key, action, reason, from_state, to_state, decided_by, about)
select
    decided.order_key,
    %(action)s,
    %(reason)s,
    decided.from_state,
    %(to_state)s,
    %(decided_by)s,
    decided.about
from unnest(%(order_keys)s::text[], %(from_states)s::text[], %(abouts)s::text[]) as decided (order_key, from_state, about);
