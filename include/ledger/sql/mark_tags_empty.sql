-- The NMP said that these tags are empty: this start of the run asks them no more.
insert into passport_ops.resting_tag (run_id, run_started_at, tag)
select
    %(run_id)s,
    %(run_started_at)s,
    empty.tag
from unnest(%(tags)s::text[]) as empty (tag)
order by empty.tag
on conflict do nothing;
