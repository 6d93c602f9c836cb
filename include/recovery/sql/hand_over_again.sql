-- Once resets and withdrawals are named, the links that are left count: the next load publishes them.
with counting as (
    update passport_ops.passport
    set kept_back = false
    where
        kept_back
        and exists (
            select
            from passport_ops.recovery as opened
            where
                opened.ended_at is null
                and opened.resets_named_at is not null
                and opened.withdrawals_named_at is not null
        )
    returning order_key
)

insert into passport_ops.unpublished (order_key)
select order_key
from counting
where order_key is not null;
