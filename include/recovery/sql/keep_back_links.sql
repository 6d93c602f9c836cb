-- Links that are older than the backup are handed to nobody until a person says which of them still count.
with kept_back as (
    update passport_ops.passport
    set kept_back = true
    where state = 'assigned' and kept_back is not true
    returning order_key
),

hidden as (
    update passport.links as shown
    set
        link = null,
        updated_at = statement_timestamp()
    from kept_back
    where shown.order_key = kept_back.order_key and shown.link is not null
)

select count(*) as kept_back
from kept_back;
