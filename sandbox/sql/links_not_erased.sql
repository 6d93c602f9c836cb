-- Passports that ended and whose link was not erased.
select
    certificate_id,
    order_key,
    end_reason
from passport_ops.passport
where state = 'ended' and link is not null
order by passport_id;
