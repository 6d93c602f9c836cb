-- Tags that need a sync: with links out, with spares or withheld passports, or with links taken back that a customer may still use.
select distinct tag
from passport_ops.passport
where (
    state in ('assigned', 'spare', 'withheld')
    or (state = 'ended' and end_reason = 'reset' and order_key is not null and claimed_at is null)
)
and (%(tags)s::text[] is null or tag = any(%(tags)s::text[]))
order by tag;
