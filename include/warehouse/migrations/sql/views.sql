-- What people read without ever seeing a link. The views read the ledger with their owner's rights, so that a reader
-- needs none on passport_ops; none of them touches a column that holds a link. Executed by every migration, after its
-- revisions: a view has its one home here. A new column comes last; a column that goes needs a revision that drops the
-- view first.

create or replace view passport.link_status as
select -- noqa: ST06
    known.order_key,
    known.order_id,
    known.customer_ref,
    known.product,
    known.campaign,
    known.tag,
    known.business_day,
    coalesce(held.certificate_id, shown.certificate_id) as certificate_id,
    known.state,
    case when held.kept_back then 'its link is kept back until a recovery says that it still counts' else known.reason end as reason,
    known.ordered_at,
    known.reserved_at,
    known.claimed_at,
    coalesce(known.reset_at, shown.reset_at) as reset_at,
    shown.distributed_at,
    shown.published_at,
    greatest(known.updated_at, shown.updated_at) as updated_at,
    known.run_id
from passport_ops.reservation as known
left join passport_ops.passport as held on known.passport_id = held.passport_id
left join passport.links as shown on known.order_key = shown.order_key;
comment on view passport.link_status is 'Every order key, with or without a link, and where it stands now.';
comment on column passport.link_status.order_key is 'What gets exactly one link: the order id, or a brand''s key per bought item.';
comment on column passport.link_status.order_id is 'The shop''s order id.';
comment on column passport.link_status.customer_ref is 'The shop''s customer id.';
comment on column passport.link_status.product is 'The product bought, if the shop says.';
comment on column passport.link_status.campaign is 'The campaign that wants this order.';
comment on column passport.link_status.tag is 'The NMP tag its passport comes from.';
comment on column passport.link_status.business_day is 'The day on which it was paid, in the shop''s time zone.';
comment on column passport.link_status.certificate_id is 'The NMP''s certificate id, as text; after a reset the one it had.';
comment on column passport.link_status.state is
'pending, calling, reserved, claimed, out_of_stock, unknown, held, cancelled, closed or reset.';
comment on column passport.link_status.reason is 'Why it stands there, in words.';
comment on column passport.link_status.ordered_at is 'When it was ordered.';
comment on column passport.link_status.reserved_at is 'When its link was reserved.';
comment on column passport.link_status.claimed_at is 'When the NMP was first seen to list its passport as claimed.';
comment on column passport.link_status.reset_at is 'When its link was taken back.';
comment on column passport.link_status.distributed_at is 'When its link was sent to its customer.';
comment on column passport.link_status.published_at is 'When its link was published; null where passport.links has none.';
comment on column passport.link_status.updated_at is 'When the ledger or a load last changed it.';
comment on column passport.link_status.run_id is 'The Airflow run that last changed it.';

create or replace view passport.daily_funnel as
select
    known.business_day,
    known.campaign,
    count(*) filter (where known.state not in ('cancelled', 'closed')) as orders,
    count(*) filter (where known.state = 'pending') as pending,
    count(*) filter (where known.state = 'calling') as calling,
    count(*) filter (where known.state = 'out_of_stock') as out_of_stock,
    count(*) filter (where known.state = 'unknown') as unknown,
    count(*) filter (where known.state = 'held') as held,
    count(*) filter (where known.state = 'reserved') as reserved,
    count(*) filter (where known.state = 'claimed') as claimed,
    count(*) filter (where known.state = 'reset') as reset,
    count(*) filter (where known.state = 'cancelled') as cancelled,
    count(*) filter (where known.state = 'closed') as closed,
    count(*) filter (
        where known.state in ('reserved', 'claimed', 'reset') and shown.order_key is not null
    ) as published,
    count(*) filter (
        where known.state in ('reserved', 'claimed', 'reset') and shown.distributed_at is not null
    ) as distributed,
    round(
        count(*) filter (where known.state = 'claimed')
        / nullif(count(*) filter (where known.state in ('reserved', 'claimed', 'reset')), 0)::numeric, 4
    ) as share_claimed
from passport_ops.reservation as known
left join passport.links as shown on known.order_key = shown.order_key
group by known.business_day, known.campaign;
comment on view passport.daily_funnel is 'From order to claim, per business day and campaign.';
comment on column passport.daily_funnel.business_day is 'The day of payment in the shop''s time zone.';
comment on column passport.daily_funnel.campaign is 'The campaign.';
comment on column passport.daily_funnel.orders is
'Order keys, without those cancelled or closed: the sum of pending, calling, out_of_stock, unknown, held, reserved, claimed, reset.';
comment on column passport.daily_funnel.pending is 'Want a link, nobody is asking.';
comment on column passport.daily_funnel.calling is 'Are being asked for now.';
comment on column passport.daily_funnel.out_of_stock is 'Found their tag empty.';
comment on column passport.daily_funnel.unknown is 'Had a call whose outcome nobody knows.';
comment on column passport.daily_funnel.held is 'Wait for a person.';
comment on column passport.daily_funnel.reserved is 'Have a link that nobody claimed yet.';
comment on column passport.daily_funnel.claimed is 'Belong to their customer.';
comment on column passport.daily_funnel.reset is 'Had a link that was taken back.';
comment on column passport.daily_funnel.cancelled is 'Are no longer eligible and never had a link.';
comment on column passport.daily_funnel.closed is 'Get no link, as a person decided.';
comment on column passport.daily_funnel.published is 'Of reserved, claimed and reset: those in passport.links.';
comment on column passport.daily_funnel.distributed is 'Of reserved, claimed and reset: those whose link was sent.';
comment on column passport.daily_funnel.share_claimed is
'Claimed, as a share (0 to 1) of reserved, claimed and reset; null where no link was given out.';

create or replace view passport.tag_stock as
with received as (
    select
        tag,
        count(*) as received,
        count(*) filter (where state = 'assigned') as live,
        count(*) filter (where state = 'claimed') as claimed,
        count(*) filter (where state = 'spare') as spares,
        count(*) filter (where state = 'ended') as ended,
        count(*) filter (where state = 'withheld') as withheld,
        -- One certificate may have come several times, and may have been claimed after it ended.
        count(distinct certificate_id) filter (
            where state in ('assigned', 'claimed') or claimed_at is not null or end_reason = 'claimed_before'
        ) as used,
        max(received_at) as last_received_at
    from passport_ops.passport
    group by tag
),

unsure as (
    select
        tag,
        count(*) as unknown_calls
    from passport_ops.attempt
    where outcome is null or outcome in ('unknown', 'redirected')
    group by tag
),

resets as (
    select
        tag,
        max(finished_at) as last_reset_at
    from passport_ops.tag_reset
    where state <> 'refused' and not dry_run
    group by tag
),

forgotten as (
    select
        tag,
        count(*) as possibly_consumed
    from passport_ops.recovery_order
    where adopted_at is null
    group by tag
),

emptied as (
    select
        tag,
        max(since) as last_empty_at
    from passport_ops.resting_tag
    group by tag
),

stock as (
    select
        tag.tag,
        tag.state,
        tag.epoch,
        tag.pool_size,
        emptied.last_empty_at,
        tag.claims_synced_at,
        coalesce(received.received, 0) as received,
        coalesce(received.live, 0) as live,
        coalesce(received.claimed, 0) as claimed,
        coalesce(received.spares, 0) as spares,
        coalesce(received.ended, 0) as ended,
        coalesce(received.withheld, 0) as withheld,
        coalesce(tag.claimed_elsewhere, 0) as claimed_elsewhere,
        coalesce(unsure.unknown_calls, 0) as unknown_calls,
        coalesce(forgotten.possibly_consumed, 0) as possibly_consumed,
        case
            -- The NMP's own word, until something came or was put back after it.
            when
                emptied.last_empty_at > coalesce(greatest(received.last_received_at, resets.last_reset_at), '-infinity')
                then coalesce(received.spares, 0)
            when tag.pool_size is not null then greatest(
                tag.pool_size - coalesce(received.used, 0) - coalesce(tag.claimed_elsewhere, 0), 0
            )
        end as remaining
    from passport_ops.tag as tag
    left join received on tag.tag = received.tag
    left join unsure on tag.tag = unsure.tag
    left join forgotten on tag.tag = forgotten.tag
    left join resets on tag.tag = resets.tag
    left join emptied on tag.tag = emptied.tag
)

select -- noqa: ST06
    tag,
    state,
    epoch,
    pool_size,
    received,
    live,
    claimed,
    spares,
    ended,
    claimed_elsewhere,
    unknown_calls,
    last_empty_at,
    claims_synced_at,
    remaining,
    case
        when remaining = 0 then 0
        when remaining <= pool_size * 0.10 then 10
        when remaining <= pool_size * 0.25 then 25
        when remaining <= pool_size * 0.50 then 50
    end as warning_level,
    withheld,
    possibly_consumed
from stock;
comment on view passport.tag_stock is 'What is known of each tag''s pool; the NMP itself says only when it is empty.';
comment on column passport.tag_stock.tag is 'The tag as the NMP knows it, case sensitive.';
comment on column passport.tag_stock.state is 'open, or resetting while a reset is under way.';
comment on column passport.tag_stock.epoch is 'How many resets the tag has had.';
comment on column passport.tag_stock.pool_size is 'How many passports its campaign says were minted for it; null if unsaid.';
comment on column passport.tag_stock.received is 'Passports ever received from it: live, claimed, spares, withheld and ended.';
comment on column passport.tag_stock.live is 'Of those: orders'' own, not claimed yet.';
comment on column passport.tag_stock.claimed is 'Of those: owned by customers.';
comment on column passport.tag_stock.spares is 'Of those: nobody''s yet; used before the next call.';
comment on column passport.tag_stock.ended is 'Of those: reset, from before a reset, duplicates, or claimed by somebody else; never used.';
comment on column passport.tag_stock.claimed_elsewhere is
'Certificates of the tag that people claimed, but that this ledger never received.';
comment on column passport.tag_stock.unknown_calls is
'Calls of unknown outcome, or under way: so many more passports may have been consumed.';
comment on column passport.tag_stock.last_empty_at is 'When the NMP last answered that the pool is empty.';
comment on column passport.tag_stock.claims_synced_at is 'When the claimed list of the tag was last read.';
comment on column passport.tag_stock.remaining is
'How many more orders it can serve, at most, as far as is known; null where pool_size is unsaid and it was never empty.';
comment on column passport.tag_stock.withheld is
'Of those received: not handed out, because the connection nmp does not accept the host or environment of their links.';
comment on column passport.tag_stock.warning_level is
'The lowest of 50, 25, 10 and 0 percent of pool_size that remaining has come down to; null above half or if unknown.';
comment on column passport.tag_stock.possibly_consumed is
'Orders whose link may have been issued and forgotten when the ledger was restored: at most so many passports more.';

create or replace view passport.needs_attention as
with line as not materialized (
    select
        'held' as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        updated_at as since,
        coalesce(reason, 'held') as reason,
        case
            when
                exists (
                    select
                    from passport_ops.recovery_order as forgotten
                    inner join passport_ops.recovery as opened on forgotten.recovery_id = opened.recovery_id
                    where opened.ended_at is null and forgotten.order_key = reservation.order_key
                )
                then 'its link may be in a mailbox: run `make recover`, which says the next step'
            else 'look it up on the NMP, then run resolve_attention: release it to be asked for again, or close it'
        end as what_to_do,
        business_day
    from passport_ops.reservation
    where state = 'held'

    union all
    select
        'unknown' as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        updated_at as since,
        coalesce(reason, 'a call may have consumed a passport that nobody saw') as reason,
        'clear the run of its day to ask again, or run resolve_attention to release or to close it' as what_to_do,
        business_day
    from passport_ops.reservation
    where state = 'unknown'

    union all
    select
        state as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        first_seen_at as since,
        case state when 'pending' then 'no run has served it for a day' else 'its tag is empty' end
        || coalesce(': ' || reason, '') as reason,
        case state
            when 'pending' then 'clear the run of its business day ' || business_day || ', or run resolve_attention to close it'
            else 'mint passports for the tag; the next scheduled run asks again. Or run resolve_attention to close it'
        end as what_to_do,
        business_day
    from passport_ops.reservation
    where
        state in ('pending', 'out_of_stock')
        and first_seen_at < now() - interval '1 day'
        and (carry_until is null or carry_until >= current_date)
        -- Those that a limit lets wait are one line.
        and (
            state <> 'pending'
            or not exists (
                select from passport_ops.new_links as reached
                inner join passport_ops.run_order as asked on reached.run_id = asked.run_id
                where reached.limit_reached is not null and asked.order_key = reservation.order_key
            )
        )

    union all
    select
        'limit_reached' as kind,
        null as order_key,
        null as tag,
        reached_day as row_key,
        reached_run as run_id,
        min(limit_reached_at) as since,
        count(distinct order_key) || ' of its orders wait: it has its '
        || coalesce(max(max_new_links) || ' new links (max_new_links)', 'new links (max_new_links_per_day)') as reason,
        'see whether so many orders are meant, or correct the campaigns and clear the run. If they are meant, '
        || case
            when reached_day is null then 'trigger a run by hand for their business day with a higher max_new_links'
            else 'raise PASSPORT_LINKS_MAX_NEW_LINKS_PER_DAY and clear the run, or clear it on another day'
        end as what_to_do,
        null::date as business_day
    from (
        select
            asked.order_key,
            reached.limit_reached_at,
            case reached.limit_reached when 'max_new_links_per_day' then 'day ' || reached.clock_day end as reached_day,
            case reached.limit_reached when 'max_new_links' then reached.run_id end as reached_run,
            case reached.limit_reached when 'max_new_links' then planned.max_new_links end as max_new_links
        from passport_ops.new_links as reached
        inner join passport_ops.run as planned on reached.run_id = planned.run_id
        inner join passport_ops.run_order as asked on reached.run_id = asked.run_id
        inner join passport_ops.reservation as waiting on asked.order_key = waiting.order_key
        where reached.limit_reached is not null and waiting.state = 'pending'
    ) as limited
    group by reached_day, reached_run

    union all
    select
        'tag_empty' as kind,
        null as order_key,
        waiting.tag,
        null as row_key,
        null as run_id,
        coalesce(max(emptied.since), min(waiting.updated_at)) as since,
        count(distinct waiting.order_key) || ' orders wait for passports of this tag' as reason,
        'mint passports for the tag; the next scheduled run asks again, or clear the run' as what_to_do,
        null::date as business_day
    from passport_ops.reservation as waiting
    left join passport_ops.resting_tag as emptied on waiting.tag = emptied.tag
    where waiting.state = 'out_of_stock'
    group by waiting.tag

    union all
    select
        'not_carried' as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        carry_until::timestamptz as since,
        'no scheduled run serves it after ' || carry_until as reason,
        'backfill its business day ' || business_day || ', or run resolve_attention to close it' as what_to_do,
        business_day
    from passport_ops.reservation
    where state in ('pending', 'out_of_stock') and carry_until < current_date

    union all
    select
        'never_answered' as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        lease_until as since,
        'its call''s lease ended and no run has asked since' as reason,
        'clear the run of its business day ' || business_day as what_to_do,
        business_day
    from passport_ops.reservation
    where state = 'calling' and lease_until < now() - interval '15 minutes'

    union all
    select
        'claim_uncertain' as kind,
        order_key,
        tag,
        null as row_key,
        null as run_id,
        coalesce(claimed_at, updated_at) as since,
        coalesce(reason, 'the claim may be of an earlier holder of the same certificate') as reason,
        'ask the customer, or look the owner up on the NMP; then acknowledge it with resolve_attention' as what_to_do,
        business_day
    from passport_ops.reservation
    where claim_uncertain

    union all
    select
        'not_published' as kind,
        noted.order_key,
        known.tag,
        null as row_key,
        null as run_id,
        min(noted.noted_at) as since,
        min(noted.refused) as reason,
        'look the passport up on the NMP and mend its row in passport_ops.passport; the next load tries again' as what_to_do,
        known.business_day
    from passport_ops.unpublished as noted
    inner join passport_ops.reservation as known on noted.order_key = known.order_key
    where noted.refused is not null
    group by noted.order_key, known.tag, known.business_day

    union all
    select
        'duplicate' as kind,
        call.order_key,
        twice.tag,
        'certificate ' || twice.certificate_id as row_key,
        null as run_id,
        twice.received_at as since,
        'it came although it was live for another order; the order got nothing from it' as reason,
        'ask the NMP''s operator why one certificate was handed out twice; then acknowledge it with resolve_attention' as what_to_do,
        null::date as business_day
    from passport_ops.passport as twice
    inner join passport_ops.attempt as call on twice.attempt_id = call.attempt_id
    where twice.state = 'ended' and twice.end_reason = 'duplicate'

    union all
    select
        'claimed_twice' as kind,
        order_key,
        tag,
        'certificate ' || certificate_id as row_key,
        null as run_id,
        claimed_at as since,
        'it was claimed after a reset had taken it back; the order has another one' as reason,
        'its customer may own two passports: ask, and have one transferred back on the NMP;'
        || ' then acknowledge it with resolve_attention' as what_to_do,
        null::date as business_day
    from passport_ops.passport
    where state = 'ended' and end_reason = 'reset' and claimed_at is not null

    union all
    select
        'rejected' as kind,
        null as order_key,
        null as tag,
        subject as row_key,
        null as run_id,
        since,
        open_rows || case open_rows when 1 then ' row is' else ' rows are' end || ' not taken: ' || reason || '. The newest: '
        || array_to_string(first_keys, '; ') as reason,
        'passport.rejected lists the rows: correct the orders in the shop, or the campaigns, and clear the run of the day;'
        || ' or acknowledge it with resolve_attention' as what_to_do,
        business_day
    from passport_ops.rejected_day
    where closed_at is null

    union all
    select
        'resetting' as kind,
        null as order_key,
        tag,
        null as row_key,
        null as run_id,
        resetting_since as since,
        'its reset began and has not ended; no order of this tag is served meanwhile' as reason,
        'run reset_stale_reservations again for this tag' as what_to_do,
        null::date as business_day
    from passport_ops.tag
    where state = 'resetting' and resetting_since < now() - interval '15 minutes'

    union all
    select
        'reset' as kind,
        null as order_key,
        latest.tag,
        null as row_key,
        null as run_id,
        latest.intended_at as since,
        'its last reset is ' || latest.state || coalesce(': ' || latest.detail, '') as reason,
        case latest.state
            when 'refused' then 'see whether the NMP key may reset, then run reset_stale_reservations again, or acknowledge it'
            else 'look on the NMP whether the reset was done, then run reset_stale_reservations again'
        end as what_to_do,
        null::date as business_day
    from (
        select distinct on (tag) *
        from passport_ops.tag_reset
        where not dry_run
        order by tag asc, reset_id desc
    ) as latest
    inner join passport_ops.tag as tag on latest.tag = tag.tag
    where
        (latest.state = 'refused' and coalesce(latest.detail, '') not like 'not begun:%')
        or (
            latest.state in ('intended', 'unknown')
            and latest.intended_at < now() - interval '15 minutes'
            and tag.state = 'open'
        )

    union all
    select
        'run_stopped' as kind,
        null as order_key,
        null as tag,
        null as row_key,
        latest.run_id,
        latest.stopped_at as since,
        latest.stop_reason as reason,
        'mend what it names, then clear the reserve task of the run; or acknowledge it with resolve_attention' as what_to_do,
        latest.last_day as business_day
    from (
        select distinct on (planned.last_day)
            planned.run_id,
            planned.first_day,
            planned.last_day,
            tried.stopped_at,
            tried.stop_reason
        from passport_ops.run as planned
        inner join passport_ops.run_attempt as tried on planned.run_id = tried.run_id
        order by planned.last_day asc, tried.run_started_at desc
    ) as latest
    where
        latest.stopped_at is not null
        and (
            select count(*)
            from passport.days as published
            where published.complete and published.business_day between latest.first_day and latest.last_day
        ) <= latest.last_day - latest.first_day

    union all
    select
        'day_not_read' as kind,
        null as order_key,
        null as tag,
        case
            when count(*) = 1 then min(business_day)::text
            else min(business_day) || ' to ' || max(business_day)
        end as row_key,
        null as run_id,
        max(unread_at) as since,
        case
            when count(*) = 1 then min(business_day) || ' was not read since its end'
            else count(*) || ' days were not read since their end: ' || min(business_day) || ' to ' || max(business_day)
        end as reason,
        'see why extract_orders failed or no run came; the next scheduled run reads what is not older than catch_up_days; '
        || 'for the rest backfill reserve_passport_links from ' || min(business_day) || ' to ' || max(business_day)
        || ', or trigger it with each day; or acknowledge it with resolve_attention' as what_to_do,
        case when count(*) = 1 then min(business_day) end as business_day
    from (
        select
            business_day,
            unread_at,
            business_day - (row_number() over (order by business_day))::integer as gap
        from passport.days
        where state = 'unread'
    ) as not_read
    group by gap

    union all
    select
        'went_back' as kind,
        null as order_key,
        null as tag,
        warehouse_id::text as row_key,
        null as run_id,
        went_back_at as since,
        'the warehouse went back in time: orders that look unserved may have a link, so nothing is asked for' as reason,
        'stop whatever sends links, then run `make recover` as docs/recovery.md says' as what_to_do,
        null::date as business_day
    from passport_ops.gate
    where went_back_at is not null

    union all
    select
        'recovery' as kind,
        null as order_key,
        null as tag,
        'recovery ' || recovery_id as row_key,
        null as run_id,
        began_at as since,
        'recovery ' || recovery_id || ' is open: it holds orders, and keeps back links that are older than the backup' as reason,
        'run `make recover`: it says the next step' as what_to_do,
        null::date as business_day
    from passport_ops.recovery
    where ended_at is null
)

-- A line that a person acknowledged is shown again when it happens again, so with a later since.
select
    line.kind,
    line.order_key,
    line.tag,
    line.row_key,
    line.run_id,
    line.since,
    line.reason,
    line.what_to_do,
    line.business_day,
    coalesce(line.row_key, line.order_key, line.run_id, line.tag) as subject
from line
where
    not exists (
        select from passport_ops.decision as seen
        where
            seen.action = 'acknowledge'
            and seen.kind = line.kind
            and seen.subject = coalesce(line.row_key, line.order_key, line.run_id, line.tag)
            and seen.since >= line.since
    );
comment on view passport.needs_attention is
'One row per thing that a person must look at. It leaves by a decision or by the event that settles it, never by age.';
comment on column passport.needs_attention.kind is
'held, unknown, pending or out_of_stock (for a day), limit_reached, tag_empty, not_carried, never_answered, claim_uncertain, not_published, duplicate, claimed_twice, rejected, resetting, reset, run_stopped, day_not_read, went_back or recovery.'; -- noqa: LT05
comment on column passport.needs_attention.order_key is 'The order, where it is about one.';
comment on column passport.needs_attention.tag is 'The NMP tag, where it is about one.';
comment on column passport.needs_attention.row_key is
'What it is about, where that is no order, tag or run: a certificate, days, or the day and reason of rejected rows.';
comment on column passport.needs_attention.run_id is 'The Airflow run, where it is about one.';
comment on column passport.needs_attention.since is 'Since when.';
comment on column passport.needs_attention.reason is 'What is the matter, in words.';
comment on column passport.needs_attention.what_to_do is 'The next step.';
comment on column passport.needs_attention.business_day is 'The business day, where it is about one.';
comment on column passport.needs_attention.subject is 'What finds it among those of its kind: a key for resolve_attention.';

create or replace view passport.rejected as
select
    business_day,
    reason,
    row_key,
    order_key,
    detail,
    run_id,
    seen_at,
    gone_at
from passport_ops.rejected_row;
comment on view passport.rejected is 'Every row of the shop''s orders that was not taken, with its reason.';
comment on column passport.rejected.business_day is 'Its business day; null where it has none.';
comment on column passport.rejected.reason is 'Why it was not taken.';
comment on column passport.rejected.row_key is 'What finds the row in the shop: its order id, or its place, and when it was paid.';
comment on column passport.rejected.order_key is 'Its order key; null where it has none that can be used.';
comment on column passport.rejected.detail is 'What is wrong, in words, and what to do.';
comment on column passport.rejected.run_id is 'The Airflow run that last changed this.';
comment on column passport.rejected.seen_at is 'When it was first returned, came back, or changed.';
comment on column passport.rejected.gone_at is
'When a reading of its day no longer returned it, or returned it as an order; null while it is not taken.';

create or replace view passport.attention_history as
select
    decided.decided_at as settled_at,
    coalesce(decided.kind, decided.from_state) as kind,
    coalesce(decided.subject, decided.order_key) as subject,
    decided.about as reason,
    decided.action as settled_by,
    decided.decided_by,
    decided.reason as why
from passport_ops.decision as decided

union all
select
    closed_at as settled_at,
    'rejected' as kind,
    subject,
    reason || '. The newest: ' || array_to_string(first_keys, '; ') as reason,
    'event' as settled_by,
    null as decided_by,
    'a later reading of the day returned no such row' as why
from passport_ops.rejected_day
where closed_at is not null

union all
select
    coalesce(tried.next_started_at, published.updated_at) as settled_at,
    'run_stopped' as kind,
    tried.run_id as subject,
    tried.stop_reason as reason,
    'event' as settled_by,
    null as decided_by,
    case when tried.next_started_at is null then 'its business day is complete' else 'a later run of its business day' end as why
from (
    select
        planned.run_id,
        planned.first_day,
        planned.last_day,
        start.stopped_at,
        start.stop_reason,
        lead(start.run_started_at) over (partition by planned.last_day order by start.run_started_at) as next_started_at
    from passport_ops.run as planned
    inner join passport_ops.run_attempt as start on planned.run_id = start.run_id
) as tried
cross join
    lateral (
        select
            max(day.updated_at) as updated_at,
            count(*) > tried.last_day - tried.first_day as complete
        from passport.days as day
        where day.complete and day.business_day between tried.first_day and tried.last_day
    ) as published
where tried.stopped_at is not null and (tried.next_started_at is not null or published.complete)

union all
select
    known.closed_at as settled_at,
    'day_not_read' as kind,
    shown.business_day::text as subject,
    'it was not read since its end' as reason,
    'event' as settled_by,
    null as decided_by,
    'the run ' || known.closed_by || ' read it' as why
from passport.days as shown
inner join passport_ops.day as known on shown.business_day = known.business_day
where shown.unread_at is not null and known.whole

union all
select
    tried.next_at as settled_at,
    'reset' as kind,
    tried.tag as subject,
    'the reset is ' || tried.state || coalesce(': ' || tried.detail, '') as reason,
    'event' as settled_by,
    null as decided_by,
    'a later reset of the tag' as why
from (
    select
        tag,
        state,
        detail,
        lead(intended_at) over (partition by tag order by reset_id) as next_at
    from passport_ops.tag_reset
    where not dry_run
) as tried
where tried.next_at is not null and tried.state <> 'done' and coalesce(tried.detail, '') not like 'not begun:%';
comment on view passport.attention_history is
'What needed attention and was settled: by whom or by what event, when and why. For orders it has the decisions.';
comment on column passport.attention_history.settled_at is 'When it was settled.';
comment on column passport.attention_history.kind is 'The kind it had in passport.needs_attention.';
comment on column passport.attention_history.subject is 'The order, certificate, run, tag, or day and reason, that it was about.';
comment on column passport.attention_history.reason is 'What was the matter, in words.';
comment on column passport.attention_history.settled_by is 'release, close or acknowledge by a person; or event.';
comment on column passport.attention_history.decided_by is 'The person, if Airflow says who triggered the decision.';
comment on column passport.attention_history.why is 'The person''s reason, or the event.';
