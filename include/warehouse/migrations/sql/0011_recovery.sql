-- A recovery: the ledger went back in time, and a person says what happened to the links that it forgot.
create table passport_ops.recovery (
    recovery_id bigint generated always as identity primary key,
    since timestamptz not null,
    began_at timestamptz not null default clock_timestamp(),
    begun_by text not null,
    grants bigint not null,
    remembered bigint,
    links_given_at timestamptz,
    resets_named_at timestamptz,
    withdrawals_named_at timestamptz,
    ended_at timestamptz,
    ended_by text
);
create unique index recovery_open on passport_ops.recovery ((ended_at is null)) where ended_at is null;
comment on table passport_ops.recovery is 'One row per recovery after the ledger went back in time; at most one is open.';
comment on column passport_ops.recovery.recovery_id is 'Key.';
comment on column passport_ops.recovery.since is 'The time of the backup, as the person says: what was issued after it is forgotten.';
comment on column passport_ops.recovery.began_at is 'When it began; orders that were paid before are held.';
comment on column passport_ops.recovery.begun_by is 'Who began it.';
comment on column passport_ops.recovery.grants is 'How many grants the restored ledger counted.';
comment on column passport_ops.recovery.remembered is
'How many grants whoever noticed the restore had seen: at least the difference is lost. Null: nobody noticed it.';
comment on column passport_ops.recovery.links_given_at is
'When the links of hand-overs were last given, or said to be none; null: not yet.';
comment on column passport_ops.recovery.resets_named_at is
'When the tags that were reset since were named, or said to be none; null: not yet.';
comment on column passport_ops.recovery.withdrawals_named_at is
'When the links that were withdrawn since were named, or said to be none; null: not yet.';
comment on column passport_ops.recovery.ended_at is 'When it ended; null while it is open.';
comment on column passport_ops.recovery.ended_by is 'Who ended it.';

create table passport_ops.recovery_order (
    recovery_id bigint not null references passport_ops.recovery (recovery_id),
    order_key text not null references passport_ops.reservation (order_key),
    tag text not null,
    from_state text not null,
    held_at timestamptz not null default clock_timestamp(),
    adopted_at timestamptz,
    released_at timestamptz,
    primary key (recovery_id, order_key)
);
create index recovery_order_key on passport_ops.recovery_order (order_key);
create index recovery_order_tag on passport_ops.recovery_order (tag) where adopted_at is null;
comment on table passport_ops.recovery_order is
'One row per order that a recovery held: its link may have been issued and forgotten.';
comment on column passport_ops.recovery_order.recovery_id is 'The recovery.';
comment on column passport_ops.recovery_order.order_key is 'The order.';
comment on column passport_ops.recovery_order.tag is 'Its tag: a call for it may have consumed a passport of it.';
comment on column passport_ops.recovery_order.from_state is 'Its state before.';
comment on column passport_ops.recovery_order.held_at is 'When it was held.';
comment on column passport_ops.recovery_order.adopted_at is 'When its link was adopted from a hand-over.';
comment on column passport_ops.recovery_order.released_at is 'When the end of the recovery let it wait for a link again.';

create table passport_ops.adopted_link (
    order_key text primary key,
    certificate_id text,
    link text,
    given_at timestamptz default clock_timestamp()
);
comment on table passport_ops.adopted_link is
'Links of hand-overs that wait until an extraction returns their order. Restricted: it holds links.';
comment on column passport_ops.adopted_link.order_key is 'The order that the hand-over names.';
comment on column passport_ops.adopted_link.certificate_id is 'The NMP''s certificate id, as text.';
comment on column passport_ops.adopted_link.link is 'The claim link, a bearer secret.';
comment on column passport_ops.adopted_link.given_at is 'When a person gave it.';

alter table passport_ops.passport
add column kept_back boolean default false,
add column handed_over_at timestamptz;
comment on column passport_ops.passport.handed_over_at is
'When a recovery took it from a hand-over, which counts as distributed; null for one that a call brought.';
comment on column passport_ops.passport.kept_back is
'True while a recovery is open and nobody has said whether this link, older than the backup, still counts.';
comment on column passport_ops.passport.end_reason is
'Why it ended: reset, old_epoch, duplicate, claimed_spare, claimed_before, no_intent, restored, withdrawn.';
