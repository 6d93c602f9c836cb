-- The order that last lost each claimed certificate to a reset, where nobody has the certificate now and nobody is known to
-- have claimed it. Dropped with the table it reads, at the end of the transaction.
create temporary view last_holder as
select distinct on (held.certificate_id)
    held.certificate_id,
    held.passport_id,
    held.order_key
from pg_temp.claimed_certificate as listed
inner join passport_ops.passport as held on listed.certificate_id = held.certificate_id
where
    held.end_reason = 'reset'
    and held.order_key is not null
    and not exists (
        select from passport_ops.passport as other
        where
            other.certificate_id = held.certificate_id
            and (other.state in ('assigned', 'spare', 'claimed') or other.claimed_at is not null)
    )
order by held.certificate_id asc, held.passport_id desc;
