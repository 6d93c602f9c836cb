-- The intents and spares of a grant are counted, behind the grant lock.
update passport_ops.gate
set grants = grants + %(granted)s;
