-- The lines of one kind of passport.needs_attention, by what they are about. A filter that is null takes all.
select
    line.subject,
    line.since,
    line.reason
from passport.needs_attention as line
left join passport_ops.reservation as known on line.order_key = known.order_key
where
    line.kind = %(kind)s
    and (%(keys)s::text[] is null or line.subject = any(%(keys)s::text[]))
    and (%(campaign)s::text is null or known.campaign = %(campaign)s)
    and (%(day)s::date is null or line.business_day = %(day)s)
    and (%(tag)s::text is null or line.tag = %(tag)s)
order by line.subject;
