-- Nothing leaves passport.needs_attention by age: a decision closes it, or the event that settles it.

-- A decision is about an order, or about any other line of passport.needs_attention.
alter table passport_ops.decision alter column order_key drop not null;
alter table passport_ops.decision alter column from_state drop not null;
alter table passport_ops.decision alter column to_state drop not null;
alter table passport_ops.decision add column kind text;
alter table passport_ops.decision add column subject text;
alter table passport_ops.decision add column since timestamptz;
alter table passport_ops.decision add column about text;
alter table passport_ops.decision add constraint decision_names_what_it_is_about check (
    case
        when action = 'acknowledge' then num_nulls(kind, subject, since) = 0
        else num_nulls(order_key, from_state, to_state) = 0
    end
);
create index decision_order on passport_ops.decision (order_key, decision_id);
create index decision_acknowledged on passport_ops.decision (kind, subject, since) where action = 'acknowledge';
comment on table passport_ops.decision is 'What a person decided through resolve_attention.';
comment on column passport_ops.decision.order_key is 'The order, for a release or a close.';
comment on column passport_ops.decision.action is 'release (back to pending), close (no link) or acknowledge (seen, nothing to do).';
comment on column passport_ops.decision.from_state is 'The state of the order before; null for an acknowledge.';
comment on column passport_ops.decision.to_state is 'The state of the order after; null for an acknowledge.';
comment on column passport_ops.decision.kind is 'The kind of passport.needs_attention, for an acknowledge.';
comment on column passport_ops.decision.subject is 'What finds the line among those of its kind, for an acknowledge.';
comment on column passport_ops.decision.since is
'The since of the line that the person saw; a line that happens again later is shown again. For an acknowledge.';
comment on column passport_ops.decision.about is 'What was the matter, in words, as it was shown.';

-- A row of the source is settled when a later reading of its day no longer returns it.
alter table passport_ops.rejected_row add column gone_at timestamptz;
-- A row without a day counts as of the day -infinity, so that one index finds both.
create index rejected_row_open on passport_ops.rejected_row (coalesce(business_day, '-infinity'), reason, seen_at)
where gone_at is null;
create index rejected_row_order on passport_ops.rejected_row using hash (order_key);
comment on column passport_ops.rejected_row.reason is 'Why it was not taken: a value of RejectReason in include/orders.py.';
comment on column passport_ops.rejected_row.seen_at is 'When it was first returned, came back, or changed.';
comment on column passport_ops.rejected_row.gone_at is
'When a reading of its day no longer returned it, or returned it as an order; null while it is not taken.';

create table passport_ops.rejected_day (
    subject text primary key,
    business_day date,
    reason text not null,
    open_rows bigint not null,
    first_keys text[] not null,
    since timestamptz not null,
    seen_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz
);
create index rejected_day_open on passport_ops.rejected_day (business_day) where closed_at is null;
comment on table passport_ops.rejected_day is
'One row per business day and reason: how many rows of the source are not taken. Each reading of the day counts anew.';
comment on column passport_ops.rejected_day.subject is 'The day and the reason as one text.';
comment on column passport_ops.rejected_day.business_day is 'The business day; null for rows without one.';
comment on column passport_ops.rejected_day.reason is 'Why the rows were not taken.';
comment on column passport_ops.rejected_day.open_rows is 'How many rows are not taken now.';
comment on column passport_ops.rejected_day.first_keys is 'The order keys, or what finds the rows, of the newest of them.';
comment on column passport_ops.rejected_day.since is 'When the newest of these rows was first returned, came back, or changed.';
comment on column passport_ops.rejected_day.seen_at is 'When a reading last returned such rows.';
comment on column passport_ops.rejected_day.closed_at is 'When the last of these rows was gone; null while there are some.';

-- Rows that were not shown any more before this migration are not shown after it.
update passport_ops.rejected_row as row
set gone_at = clock_timestamp()
where
    row.seen_at <= now() - interval '30 days'
    or (
        row.reason <> 'duplicate_key'
        and exists (
            select from passport_ops.reservation as known
            where known.order_key = row.order_key
        )
    );

insert into passport_ops.rejected_day (subject, business_day, reason, open_rows, first_keys, since)
select
    coalesce(business_day::text, 'no day') || ' ' || reason,
    business_day,
    reason,
    count(*),
    (array_agg(coalesce(order_key, row_key) order by seen_at desc, row_key asc))[1:5],
    max(seen_at)
from passport_ops.rejected_row
where gone_at is null
group by business_day, reason;
