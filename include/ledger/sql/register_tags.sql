-- Every tag that an order names has a row, so that an intent can lock it. A row that needs no change is not locked: an
-- extraction may take long, and calls and answers of its tags go on.
with wanted as (
    select
        named.tag,
        max(named.pool_size) as pool_size
    from unnest(%(tags)s::text[], %(pool_sizes)s::integer[]) as named (tag, pool_size)
    group by named.tag
),

added as (
    insert into passport_ops.tag (tag, pool_size)
    select
        tag,
        pool_size
    from wanted
    order by tag
    on conflict (tag) do nothing
)

update passport_ops.tag as known
set pool_size = wanted.pool_size
from wanted
where known.tag = wanted.tag and known.pool_size is distinct from wanted.pool_size and wanted.pool_size is not null;
