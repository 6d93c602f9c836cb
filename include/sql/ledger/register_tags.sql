-- Every tag that an order names has a row, so that an intent can lock it.
insert into passport_ops.tag as known (tag, pool_size)
select
    wanted.tag,
    max(wanted.pool_size) as pool_size
from unnest(%(tags)s::text [], %(pool_sizes)s::integer []) as wanted (tag, pool_size)
group by wanted.tag
order by wanted.tag
on conflict (tag) do update set pool_size = excluded.pool_size
where known.pool_size is distinct from excluded.pool_size and excluded.pool_size is not null;
