-- The tags of some calls, held so that no reset can end before these answers are settled. Locked before any order, as a
-- reset does it.
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
    )
order by tag
for share;
