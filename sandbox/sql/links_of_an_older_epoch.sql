-- Passports that could still be handed out although their tag was reset after they were asked for.
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
