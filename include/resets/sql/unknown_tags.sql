-- The tags that a person named and the ledger does not know.
select named.tag
from unnest(%(tags)s::text[]) as named (tag)
where
    not exists (
        select from passport_ops.tag as known
        where known.tag = named.tag
    )
order by named.tag;
