-- Links that a hand-over wrote become their orders' own, without a call. They were handed over, so they count as
-- distributed. One whose order is not in the ledger, or whose certificate is live, waits. The link goes from table to table
-- in the server, so no statement and no log has it.
with adoptable as (
    select
        given.order_key,
        given.certificate_id,
        given.link,
        known.tag
    from passport_ops.adopted_link as given
    inner join passport_ops.reservation as known on given.order_key = known.order_key
    where known.state = any(%(unserved)s::text[])
    order by known.order_key
    for update of known
),

stored as (
    insert into passport_ops.passport (
        certificate_id, link, link_sha256, tag, epoch, state, order_key, received_at, handed_over_at
    )
    select
        adoptable.certificate_id,
        adoptable.link,
        passport_ops.link_sha256(adoptable.link),
        adoptable.tag,
        tag.epoch,
        'assigned',
        adoptable.order_key,
        clock_timestamp(),
        statement_timestamp()
    from adoptable
    inner join passport_ops.tag as tag on adoptable.tag = tag.tag
    order by adoptable.certificate_id
    on conflict do nothing
    returning passport_id, order_key
),

taken as (
    delete from passport_ops.adopted_link as given
    using stored
    where given.order_key = stored.order_key
),

noted as (
    update passport_ops.recovery_order as held
    set adopted_at = clock_timestamp()
    from stored
    where held.order_key = stored.order_key and held.adopted_at is null and held.released_at is null
)

update passport_ops.reservation as known
set
    state = 'reserved',
    reason = 'its link was adopted from a hand-over',
    passport_id = stored.passport_id,
    reserved_at = clock_timestamp(),
    reset_at = null,
    lease_until = null,
    fence = known.fence + 1,
    updated_at = clock_timestamp()
from stored
where known.order_key = stored.order_key
returning known.order_key;
