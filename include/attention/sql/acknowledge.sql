-- Who acknowledged which lines of a kind, and why.
insert into passport_ops.decision (action, kind, subject, since, about, reason, decided_by)
select
    'acknowledge',
    %(kind)s,
    line.subject,
    line.since,
    line.about,
    %(reason)s,
    %(decided_by)s
from unnest(%(subjects)s::text[], %(sinces)s::timestamptz[], %(abouts)s::text[]) as line (subject, since, about);
