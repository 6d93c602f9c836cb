-- No reset begins or ends until a chunk of the orders of these tags is registered: a new order shares its tag only after all orders
-- are locked, which a reset does the other way round. Calls and answers of the tags go on.
select tag
from passport_ops.tag
where tag = any(%(tags)s::text[])
order by tag
for key share;
