-- The published schema: what people read. passport.links holds links, so it carries no NOT NULL and no CHECK beyond its
-- key, and its uniqueness is on the certificate and on the link's SHA-256, never on the link itself.

create schema if not exists passport;
comment on schema passport is 'Published claim links and their life; for people.';

create function passport_ops.link_sha256(link text) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(link, 'UTF8'));
comment on function passport_ops.link_sha256(text) is
'SHA-256 of a link: what uniqueness is checked on, so that no index error can print a link.';

-- https://<host>/[<method>/]<certificateId>,<passphrase>[,<more>][?query], the NMP's "Individual links" (v2).
create function passport_ops.link_is_well_formed(link text, certificate_id text) returns boolean
language sql immutable parallel safe
return coalesce(
    link ~* '^https://[^/?#[:space:]]+/([^/?#,[:space:]]+/)?[0-9]+,[^,/?#[:space:]]+(,[^/?#[:space:]]*)?([?][^#[:space:]]*)?$'
    and substring(link from '/([0-9]+),') = certificate_id,
    false
);
comment on function passport_ops.link_is_well_formed(text, text) is
'Whether a link is an https link with a passphrase to this very certificate; what a load checks before it publishes.';

create table passport.links (
    order_key text primary key,
    order_id text,
    customer_ref text,
    product text,
    campaign text,
    tag text,
    business_day date,
    certificate_id text,
    link text,
    state text,
    ordered_at timestamptz,
    reserved_at timestamptz,
    claimed_at timestamptz,
    reset_at timestamptz,
    distributed_at timestamptz,
    published_at timestamptz,
    updated_at timestamptz,
    run_id text
);
create index links_business_day on passport.links (business_day);
create unique index links_certificate on passport.links (certificate_id) where state in ('reserved', 'claimed');
create unique index links_link on passport.links (passport_ops.link_sha256(link))
where state in ('reserved', 'claimed');
comment on table passport.links is
'One row per order key that ever had a claim link. Restricted: who holds a link claims the passport.';
comment on column passport.links.order_key is 'What gets exactly one link: the order id, or a brand''s key per bought item.';
comment on column passport.links.order_id is 'The shop''s order id.';
comment on column passport.links.customer_ref is 'The shop''s customer id.';
comment on column passport.links.product is 'The product bought, if the shop says.';
comment on column passport.links.campaign is 'The campaign that wanted this order.';
comment on column passport.links.tag is 'The NMP tag its passport came from.';
comment on column passport.links.business_day is 'The day on which it was paid, in the shop''s time zone.';
comment on column passport.links.certificate_id is 'The NMP''s certificate id, as text; kept after a reset.';
comment on column passport.links.link is 'The claim link, a bearer secret; null after a reset.';
comment on column passport.links.state is
'reserved: waits to be claimed; claimed: its customer owns the passport; reset: taken back, the link is no longer theirs.';
comment on column passport.links.ordered_at is 'When it was ordered.';
comment on column passport.links.reserved_at is 'When its link was reserved.';
comment on column passport.links.claimed_at is 'When the NMP was first seen to list its passport as claimed.';
comment on column passport.links.reset_at is 'When its link was taken back.';
comment on column passport.links.distributed_at is
'When its link was sent to its customer; written by whoever sends it, cleared when the order gets a new link.';
comment on column passport.links.published_at is 'When this link was first published.';
comment on column passport.links.updated_at is 'When a load last changed this row.';
comment on column passport.links.run_id is 'The Airflow run whose load last changed this row.';

create table passport.days (
    business_day date primary key,
    complete boolean not null,
    orders integer not null,
    published integer not null,
    lacking integer not null,
    lacking_by_state jsonb not null default '{}',
    published_at timestamptz not null,
    updated_at timestamptz not null,
    run_id text not null
);
comment on table passport.days is 'One row per business day that was published: whether it is whole, and what it lacks.';
comment on column passport.days.business_day is 'The day of payment in the shop''s time zone.';
comment on column passport.days.complete is 'True where no order lacks its link.';
comment on column passport.days.orders is 'Order keys of the day, without those cancelled or closed.';
comment on column passport.days.published is 'Those of them that have, or had, their link in passport.links.';
comment on column passport.days.lacking is 'Those that have none: orders less published.';
comment on column passport.days.lacking_by_state is
'How many lack a link by state of the ledger, like {"out_of_stock": 3}; reserved stands for a link that could not be published.';
comment on column passport.days.published_at is 'When the day was first published.';
comment on column passport.days.updated_at is 'When a load last changed this row.';
comment on column passport.days.run_id is 'The Airflow run whose load last changed this row.';

-- A load takes what changed since the last one and nothing else, so that its time does not grow with the years. Rows
-- are only added and taken away, never updated by the ledger, so that no writer of the ledger ever waits for a load.
create table passport_ops.unpublished (
    change_id bigint generated always as identity primary key,
    order_key text not null,
    noted_at timestamptz not null default clock_timestamp(),
    refused text
);
create index unpublished_order on passport_ops.unpublished (order_key);
comment on table passport_ops.unpublished is 'Changes of orders that have, or had, a link, which no load has published yet.';
comment on column passport_ops.unpublished.change_id is 'Key.';
comment on column passport_ops.unpublished.order_key is 'The order that changed.';
comment on column passport_ops.unpublished.noted_at is 'When it changed.';
comment on column passport_ops.unpublished.refused is 'Why the last load would not publish it; null where none has tried.';

create function passport_ops.note_unpublished() returns trigger
language plpgsql as $$
begin
    insert into passport_ops.unpublished (order_key) values (new.order_key);
    return null;
end
$$;
comment on function passport_ops.note_unpublished() is 'Notes an order for the next load.';

create trigger note_unpublished_insert after insert on passport_ops.reservation
for each row when (new.state in ('reserved', 'claimed', 'reset'))
execute function passport_ops.note_unpublished();
create trigger note_unpublished_update after update on passport_ops.reservation
for each row when (
    new.state in ('reserved', 'claimed', 'reset') or old.state in ('reserved', 'claimed', 'reset')
)
execute function passport_ops.note_unpublished();
