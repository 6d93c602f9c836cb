-- The ledger: what the pipeline knows about every order, every call and every passport received.
-- A link is a password: only passport.link and answer.body hold one, and those two tables carry no NOT NULL and no
-- CHECK beyond their key, because a violated one would print the whole row into the error and the database log.

create schema if not exists passport_ops;
comment on schema passport_ops is 'The ledger of the passport pipeline; for the pipeline, not for people.';

create table passport_ops.gate (
    one boolean primary key default true check (one)
);
insert into passport_ops.gate default values;
comment on table passport_ops.gate is
'One row that whoever grants intents, stops a run or rests a tag locks first, so that these happen one after another.';
comment on column passport_ops.gate.one is 'Always true: there is one row.';

create table passport_ops.tag (
    tag text primary key,
    state text not null default 'open' check (state in ('open', 'resetting')),
    epoch integer not null default 0,
    resetting_since timestamptz,
    pool_size integer,
    claims_synced_at timestamptz,
    claimed_elsewhere integer
);
comment on table passport_ops.tag is 'One row per NMP tag; an intent share-locks it, a reset changes it.';
comment on column passport_ops.tag.tag is 'The tag as the NMP knows it, case sensitive.';
comment on column passport_ops.tag.state is 'open: may be asked; resetting: a reset is under way, no new calls.';
comment on column passport_ops.tag.epoch is 'Raised by every reset; passports of an older epoch are never handed out.';
comment on column passport_ops.tag.resetting_since is 'When the reset under way committed its intent; null when open.';
comment on column passport_ops.tag.pool_size is 'How many passports the campaign says its pool was minted with; null if unsaid.';
comment on column passport_ops.tag.claims_synced_at is 'When the claimed list of the tag was last read.';
comment on column passport_ops.tag.claimed_elsewhere is
'Certificates of the tag claimed by people, but never received by this ledger.';

create table passport_ops.passport (
    passport_id bigint generated always as identity primary key,
    certificate_id text,
    link text,
    link_sha256 bytea,
    tag text,
    epoch integer,
    state text,
    order_key text,
    attempt_id bigint,
    received_at timestamptz,
    claimed_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    unique (passport_id, order_key)
);
create unique index passport_live_certificate on passport_ops.passport (certificate_id)
where state in ('assigned', 'spare', 'claimed');
create unique index passport_live_link on passport_ops.passport (link_sha256)
where state in ('assigned', 'spare', 'claimed');
create unique index passport_live_order on passport_ops.passport (order_key)
where state in ('assigned', 'claimed');
create index passport_certificate on passport_ops.passport (certificate_id);
create index passport_tag_state on passport_ops.passport (tag, state);
comment on table passport_ops.passport is
'One row per passport received from the NMP: an order''s, a spare, or ended. Restricted: it holds links.';
comment on column passport_ops.passport.passport_id is 'Key.';
comment on column passport_ops.passport.certificate_id is 'The NMP''s certificate id, as text.';
comment on column passport_ops.passport.link is 'The claim link, a bearer secret; erased when the passport ends.';
comment on column passport_ops.passport.link_sha256 is 'SHA-256 of the link, kept for ever; what uniqueness is checked on.';
comment on column passport_ops.passport.tag is 'The tag that was asked.';
comment on column passport_ops.passport.epoch is 'The tag''s epoch at the intent.';
comment on column passport_ops.passport.state is 'assigned, spare, claimed or ended.';
comment on column passport_ops.passport.order_key is 'The order it belongs or belonged to; null for a spare.';
comment on column passport_ops.passport.attempt_id is 'The call that brought it.';
comment on column passport_ops.passport.received_at is 'When its answer was committed.';
comment on column passport_ops.passport.claimed_at is 'When the NMP was first seen to list it as claimed.';
comment on column passport_ops.passport.ended_at is 'When it ended.';
comment on column passport_ops.passport.end_reason is 'Why it ended: reset, old_epoch, duplicate, claimed_spare, claimed_before.';

create table passport_ops.reservation (
    order_key text primary key,
    order_id text not null,
    customer_ref text,
    product text,
    campaign text not null,
    tag text not null references passport_ops.tag (tag),
    business_day date not null,
    ordered_at timestamptz,
    paid_at timestamptz not null,
    on_unknown text not null default 'reissue' check (on_unknown in ('reissue', 'hold')),
    stale_after interval not null,
    carry_until date,
    state text not null default 'pending' check (
        state in (
            'pending', 'calling', 'reserved', 'claimed', 'out_of_stock', 'unknown', 'held', 'cancelled', 'closed', 'reset'
        )
    ),
    reason text,
    fence bigint not null default 0,
    lease_until timestamptz,
    passport_id bigint unique,
    run_id text,
    reserved_at timestamptz,
    claimed_at timestamptz,
    reset_at timestamptz,
    claim_uncertain boolean not null default false,
    first_seen_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    foreign key (passport_id, order_key) references passport_ops.passport (passport_id, order_key),
    constraint served_has_a_passport check ((state in ('reserved', 'claimed')) = (passport_id is not null)),
    constraint calling_has_a_lease check ((state = 'calling') = (lease_until is not null))
);
create index reservation_business_day on passport_ops.reservation (business_day);
create index reservation_tag on passport_ops.reservation (tag);
create index reservation_unserved on passport_ops.reservation (business_day)
where state in ('pending', 'calling', 'out_of_stock', 'unknown', 'held');
comment on table passport_ops.reservation is 'One row per order key that was ever eligible: where it stands.';
comment on column passport_ops.reservation.order_key is 'What gets exactly one link: the order id, or a brand''s key per bought item.';
comment on column passport_ops.reservation.order_id is 'The shop''s order id.';
comment on column passport_ops.reservation.customer_ref is 'The shop''s customer id.';
comment on column passport_ops.reservation.product is 'The product bought, if the shop says.';
comment on column passport_ops.reservation.campaign is 'The campaign that wants this order.';
comment on column passport_ops.reservation.tag is 'The NMP tag its passport comes from.';
comment on column passport_ops.reservation.business_day is 'The day of paid_at in the shop''s time zone.';
comment on column passport_ops.reservation.ordered_at is 'When it was ordered.';
comment on column passport_ops.reservation.paid_at is 'When it was paid.';
comment on column passport_ops.reservation.on_unknown is 'After a call of unknown outcome: reissue (ask again within budget) or hold.';
comment on column passport_ops.reservation.stale_after is 'How long an unclaimed link is left alone, by its campaign.';
comment on column passport_ops.reservation.carry_until is 'Last business day on which a scheduled run still serves it; null: no end.';
comment on column passport_ops.reservation.state is
'pending, calling, reserved, claimed, out_of_stock, unknown, held, cancelled, closed or reset.';
comment on column passport_ops.reservation.reason is 'Why it stands there, in words; never a link.';
comment on column passport_ops.reservation.fence is 'Raised by every intent and take-over; a writer with an older one is late.';
comment on column passport_ops.reservation.lease_until is 'While calling: until when nobody else takes the row over.';
comment on column passport_ops.reservation.passport_id is 'Its live passport.';
comment on column passport_ops.reservation.run_id is 'The Airflow run that last changed it.';
comment on column passport_ops.reservation.reserved_at is 'When its link was committed.';
comment on column passport_ops.reservation.claimed_at is 'When the NMP was first seen to list its passport as claimed.';
comment on column passport_ops.reservation.reset_at is 'When its link was taken back.';
comment on column passport_ops.reservation.claim_uncertain is
'True where the claim may be of an earlier holder of the same certificate.';
comment on column passport_ops.reservation.first_seen_at is 'When an extraction first returned it.';
comment on column passport_ops.reservation.updated_at is 'When this row last changed.';

create table passport_ops.attempt (
    attempt_id bigint generated always as identity primary key,
    order_key text not null references passport_ops.reservation (order_key),
    tag text not null,
    epoch integer not null,
    fence bigint not null,
    run_id text not null,
    run_started_at timestamptz not null,
    caller text not null,
    intended_at timestamptz not null,
    lease_until timestamptz not null,
    answered_at timestamptz,
    outcome text,
    late boolean not null default false,
    status integer,
    detail text
);
create index attempt_order on passport_ops.attempt (order_key);
create index attempt_run on passport_ops.attempt (run_id);
create unique index attempt_fence on passport_ops.attempt (order_key, fence);
create index attempt_under_way on passport_ops.attempt (lease_until)
where outcome is null;
comment on table passport_ops.attempt is 'One row per call to the NMP, committed before it leaves.';
comment on column passport_ops.attempt.attempt_id is 'Key.';
comment on column passport_ops.attempt.order_key is 'The order it asks for.';
comment on column passport_ops.attempt.tag is 'The tag it asks.';
comment on column passport_ops.attempt.epoch is 'The tag''s epoch at the intent.';
comment on column passport_ops.attempt.fence is 'The reservation''s fence that this intent raised.';
comment on column passport_ops.attempt.run_id is 'The Airflow run.';
comment on column passport_ops.attempt.run_started_at is 'With run_id: the attempt of the run; clearing a finished run starts a new one.';
comment on column passport_ops.attempt.caller is 'Host, process and engine that call.';
comment on column passport_ops.attempt.intended_at is 'When the intent was written, by the database''s clock.';
comment on column passport_ops.attempt.lease_until is 'Until when nobody takes the order over.';
comment on column passport_ops.attempt.answered_at is 'When the outcome was written.';
comment on column passport_ops.attempt.outcome is 'What the call meant; null while it is under way.';
comment on column passport_ops.attempt.late is 'True where the answer came after its row had moved on.';
comment on column passport_ops.attempt.status is 'The HTTP status, if an answer arrived.';
comment on column passport_ops.attempt.detail is 'The kind of answer in words; never a link or a body.';

create table passport_ops.answer (
    attempt_id bigint primary key,
    status integer,
    body bytea,
    retry_after text,
    failure text,
    error text,
    received_at timestamptz default clock_timestamp()
);
comment on table passport_ops.answer is
'Raw answers, committed before they are parsed and erased once parsed; kept only if unreadable. Restricted: it holds links.';
comment on column passport_ops.answer.attempt_id is 'The call it answers.';
comment on column passport_ops.answer.status is 'The HTTP status; null where no answer arrived.';
comment on column passport_ops.answer.body is 'The body as it came.';
comment on column passport_ops.answer.retry_after is 'The Retry-After header, if any.';
comment on column passport_ops.answer.failure is 'Why no complete answer arrived, if so.';
comment on column passport_ops.answer.error is 'Exception class names, if any.';
comment on column passport_ops.answer.received_at is 'When it was written.';

create table passport_ops.run (
    run_id text primary key,
    business_day date not null,
    scheduled boolean not null,
    sliced boolean not null,
    tasks integer not null,
    orders integer not null,
    max_calls_per_order integer not null,
    max_unknown_per_run integer not null,
    max_duplicates_per_run integer not null,
    planned_at timestamptz not null default clock_timestamp()
);
comment on table passport_ops.run is 'One row per Airflow run of reserve_passport_links: what it set out to serve.';
comment on column passport_ops.run.run_id is 'The Airflow run.';
comment on column passport_ops.run.business_day is 'Its own day.';
comment on column passport_ops.run.scheduled is 'True where it also serves late and carried-over orders.';
comment on column passport_ops.run.sliced is 'True where a task serves a slice of orders, false where it serves one.';
comment on column passport_ops.run.tasks is 'How many mapped tasks it has.';
comment on column passport_ops.run.orders is 'How many unserved orders it set out to serve.';
comment on column passport_ops.run.max_calls_per_order is 'Calls of possible consumption per order and run attempt.';
comment on column passport_ops.run.max_unknown_per_run is 'Unknown outcomes after which a run attempt stops calling.';
comment on column passport_ops.run.max_duplicates_per_run is 'Duplicate certificates after which a run attempt stops calling.';
comment on column passport_ops.run.planned_at is 'When its extraction last wrote it.';

create table passport_ops.run_order (
    run_id text not null references passport_ops.run (run_id),
    task_index integer not null,
    order_key text not null references passport_ops.reservation (order_key),
    primary key (run_id, order_key)
);
create index run_order_task on passport_ops.run_order (run_id, task_index);
comment on table passport_ops.run_order is 'Which mapped task of a run serves which order.';
comment on column passport_ops.run_order.run_id is 'The Airflow run.';
comment on column passport_ops.run_order.task_index is 'The mapped task''s map_index.';
comment on column passport_ops.run_order.order_key is 'The order.';

create table passport_ops.run_attempt (
    run_id text not null,
    run_started_at timestamptz not null,
    opened_at timestamptz,
    stopped_at timestamptz,
    stop_reason text,
    unknown_count integer not null default 0,
    duplicate_count integer not null default 0,
    primary key (run_id, run_started_at)
);
comment on table passport_ops.run_attempt is 'One attempt of a run: rests, stops and budgets belong to it.';
comment on column passport_ops.run_attempt.run_id is 'The Airflow run.';
comment on column passport_ops.run_attempt.run_started_at is 'When this attempt of the run started.';
comment on column passport_ops.run_attempt.opened_at is 'When its first usable answer came; before, it calls one at a time.';
comment on column passport_ops.run_attempt.stopped_at is 'When it stopped calling; null while it may call.';
comment on column passport_ops.run_attempt.stop_reason is 'Why it stopped, and what to do.';
comment on column passport_ops.run_attempt.unknown_count is 'Calls of unknown outcome so far.';
comment on column passport_ops.run_attempt.duplicate_count is 'Duplicate certificates so far.';

create table passport_ops.resting_tag (
    run_id text not null,
    run_started_at timestamptz not null,
    tag text not null,
    since timestamptz not null default clock_timestamp(),
    primary key (run_id, run_started_at, tag)
);
create index resting_tag_tag on passport_ops.resting_tag (tag, since);
comment on table passport_ops.resting_tag is 'Tags that a run attempt no longer asks, because they were empty.';
comment on column passport_ops.resting_tag.run_id is 'The Airflow run.';
comment on column passport_ops.resting_tag.run_started_at is 'When this attempt of the run started.';
comment on column passport_ops.resting_tag.tag is 'The tag.';
comment on column passport_ops.resting_tag.since is 'When the NMP said that it is empty.';

create table passport_ops.rejected_row (
    row_key text not null,
    reason text not null,
    order_key text,
    business_day date,
    detail text not null,
    run_id text not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (row_key, reason)
);
comment on table passport_ops.rejected_row is 'Rows of the source that were not taken, by key and reason.';
comment on column passport_ops.rejected_row.row_key is 'The order key or, where it has none, what finds the row.';
comment on column passport_ops.rejected_row.reason is 'missing_key, duplicate_key, missing_product, unparsable_time or no_campaign.';
comment on column passport_ops.rejected_row.order_key is 'The order key, if it has one.';
comment on column passport_ops.rejected_row.business_day is 'Its business day, if it has one.';
comment on column passport_ops.rejected_row.detail is 'What is wrong, in words.';
comment on column passport_ops.rejected_row.run_id is 'The run that last saw it.';
comment on column passport_ops.rejected_row.seen_at is 'When it was last seen.';

create table passport_ops.tag_reset (
    reset_id bigint generated always as identity primary key,
    tag text not null references passport_ops.tag (tag),
    run_id text not null,
    epoch integer not null,
    dry_run boolean not null,
    state text not null default 'intended' check (state in ('intended', 'done', 'unknown', 'refused')),
    intended_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    nmp_count integer,
    orders_reset integer,
    spares_ended integer,
    detail text
);
comment on table passport_ops.tag_reset is 'One row per reset of a tag: its intent, the count the NMP gave and what it changed here.';
comment on column passport_ops.tag_reset.reset_id is 'Key.';
comment on column passport_ops.tag_reset.tag is 'The tag.';
comment on column passport_ops.tag_reset.run_id is 'The Airflow run.';
comment on column passport_ops.tag_reset.epoch is 'The tag''s epoch that this reset ends.';
comment on column passport_ops.tag_reset.dry_run is 'True where nothing was called or changed.';
comment on column passport_ops.tag_reset.state is 'intended, done, unknown (the call''s outcome is) or refused.';
comment on column passport_ops.tag_reset.intended_at is 'When the tag was closed for calls.';
comment on column passport_ops.tag_reset.finished_at is 'When the outcome was written.';
comment on column passport_ops.tag_reset.nmp_count is 'How many reservations the NMP says it cancelled.';
comment on column passport_ops.tag_reset.orders_reset is 'How many orders lost their unclaimed link.';
comment on column passport_ops.tag_reset.spares_ended is 'How many spares ended.';
comment on column passport_ops.tag_reset.detail is 'In words.';

create table passport_ops.decision (
    decision_id bigint generated always as identity primary key,
    order_key text not null references passport_ops.reservation (order_key),
    action text not null,
    reason text not null,
    from_state text not null,
    to_state text not null,
    decided_by text,
    decided_at timestamptz not null default clock_timestamp()
);
comment on table passport_ops.decision is 'What a person decided about an order through resolve_attention.';
comment on column passport_ops.decision.decision_id is 'Key.';
comment on column passport_ops.decision.order_key is 'The order.';
comment on column passport_ops.decision.action is 'release (back to pending) or close (no link).';
comment on column passport_ops.decision.reason is 'Why, in the person''s words.';
comment on column passport_ops.decision.from_state is 'The state before.';
comment on column passport_ops.decision.to_state is 'The state after.';
comment on column passport_ops.decision.decided_by is 'Who, if Airflow says.';
comment on column passport_ops.decision.decided_at is 'When.';
