-- Of each tag: the orders that the open recovery held and whose link no hand-over had. So many passports may be consumed.
select
    held.tag,
    count(*) as orders
from passport_ops.recovery_order as held
inner join passport_ops.recovery as opened on held.recovery_id = opened.recovery_id
where opened.ended_at is null and held.adopted_at is null
group by held.tag
order by held.tag;
