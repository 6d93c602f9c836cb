-- Passports that can still be given to an order although their tag was reset after the call for them.
select
    held.certificate_id,
    held.order_key,
    held.tag,
    held.epoch,
    asked.epoch as tag_epoch
from passport_ops.passport as held
inner join passport_ops.tag as asked on held.tag = asked.tag
where held.state in ('assigned', 'spare') and held.epoch < asked.epoch
order by held.passport_id;
