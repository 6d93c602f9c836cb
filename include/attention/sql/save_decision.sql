-- Who decided what, and why.
insert into passport_ops.decision (order_key, action, reason, from_state, to_state, decided_by)
values (%(order_key)s, %(action)s, %(reason)s, %(from_state)s, %(to_state)s, %(decided_by)s);
