-- Spares of these tags' current epochs, oldest first.
select
    spare.passport_id,
    spare.tag
from passport_ops.passport as spare
inner join unnest(%(tags)s::text[], %(epochs)s::integer[]) as open (tag, epoch)
    on spare.tag = open.tag and spare.epoch = open.epoch
where spare.state = 'spare'
order by spare.passport_id
limit %(most)s
for update of spare skip locked;
