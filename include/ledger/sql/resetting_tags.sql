-- Of the tags whose row is locked by somebody: those that are being reset.
select tag
from passport_ops.tag
where tag = any(%(tags)s::text[]) and state = 'resetting';
