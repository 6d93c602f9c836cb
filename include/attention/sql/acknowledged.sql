-- Those of some subjects of a kind that a person has acknowledged.
select distinct subject
from passport_ops.decision
where action = 'acknowledge' and kind = %(kind)s and subject = any(%(keys)s::text[])
order by subject;
