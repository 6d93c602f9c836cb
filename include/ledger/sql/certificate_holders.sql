-- Who holds these certificates now.
select
    certificate_id,
    passport_id,
    state,
    order_key
from passport_ops.passport
where
    certificate_id = any(%(certificate_ids)s::text[])
    and state in ('assigned', 'spare', 'claimed');
