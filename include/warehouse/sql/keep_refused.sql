-- What could not be published waits for the next load and for a person.
update passport_ops.unpublished
set refused = 'its passport has no well-formed link to its certificate'
where order_key = any(%(refused)s::text[]) and refused is null;
