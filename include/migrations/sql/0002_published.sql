-- The published schema: what people read. passport.links holds links, so it carries no NOT NULL and no CHECK beyond its
-- key, and its uniqueness is on the certificate and on the link's SHA-256, never on the link itself.

create schema if not exists passport;
comment on schema passport is 'Published claim links and their life; for people.';

create function passport_ops.link_sha256(link text) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(link, 'UTF8'));
comment on function passport_ops.link_sha256(text) is
'SHA-256 of a link: what uniqueness is checked on, so that no index error can print a link.';

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

create table passport.days (
    business_day date primary key,
    complete boolean not null,
    orders integer not null,
    published integer not null,
    lacking integer not null,
    lacking_by_state jsonb not null default '{}',
    published_at timestamptz not null,
    run_id text not null
);
