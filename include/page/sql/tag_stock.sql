-- The tags that will be empty first come first.
select
    tag,
    state,
    pool_size,
    remaining,
    warning_level,
    live,
    claimed,
    spares,
    ended,
    claimed_elsewhere,
    unknown_calls,
    last_empty_at,
    claims_synced_at,
    count(*) over () as tags
from passport.tag_stock
order by warning_level asc nulls last, coalesce(last_empty_at, claims_synced_at) desc nulls last, tag asc
limit %(rows)s
