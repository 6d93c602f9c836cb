-- The orders of a chunk of this extraction that wait for a link, if a recovery is open.
select known.order_key
from pg_temp.incoming_order as arrived
inner join passport_ops.reservation as known on arrived.order_key = known.order_key
where
    arrived.reason is null
    and arrived.order_key between %(first_key)s and %(last_key)s
    and known.state = 'pending'
    and exists (
        select
        from passport_ops.recovery as opened
        where opened.ended_at is null
    );
