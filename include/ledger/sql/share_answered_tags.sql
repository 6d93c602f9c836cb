-- The tags of some calls, and those of the spares that their links may turn out to be: held so that no reset can end
-- before these answers are settled. Locked before any order, as a reset does it.
select
    tag,
    state,
    epoch
from passport_ops.tag
where
    tag in (
        select asked.tag
        from passport_ops.attempt as asked
        where asked.attempt_id = any(%(attempt_ids)s::bigint[])
        union
        select spare.tag
        from pg_temp.incoming_link as arrived
        inner join passport_ops.passport as spare on arrived.certificate_id = spare.certificate_id
        where spare.state = 'spare'
    )
order by tag
for share;
