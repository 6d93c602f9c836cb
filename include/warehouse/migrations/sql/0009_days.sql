-- The calendar: which business days the ledger knows, and which of them were read to their end.

create table passport_ops.day (
    business_day date primary key,
    begins_at timestamptz not null,
    ends_at timestamptz not null,
    scheduled boolean not null default false,
    read_at timestamptz,
    closed_at timestamptz,
    closed_by text,
    whole boolean not null generated always as (closed_at is not null) stored,
    check ((closed_at is null) = (closed_by is null) and closed_at >= ends_at)
);
create index day_not_whole on passport_ops.day (business_day) where not whole;
create index day_closed_by on passport_ops.day (closed_by);
comment on table passport_ops.day is
'One row per business day that was read, and per day between the first and the last that a scheduled run serves.';
comment on column passport_ops.day.business_day is 'The day in the shop''s time zone.';
comment on column passport_ops.day.begins_at is 'Its first instant.';
comment on column passport_ops.day.ends_at is 'The first instant of the next day.';
comment on column passport_ops.day.scheduled is
'True from the first day that a scheduled run serves to the last: such a day must be read. False: it was read because somebody asked.';
comment on column passport_ops.day.read_at is
'When the newest registered extraction of it began to read the shop; null where none was registered.';
comment on column passport_ops.day.closed_at is
'When the first registered extraction of it that began after its end began to read; null before.';
comment on column passport_ops.day.closed_by is 'The Airflow run of that extraction.';
comment on column passport_ops.day.whole is 'True where it is closed: it was read after its end, so no order is missing.';

alter table passport_ops.run rename column business_day to first_day;
alter table passport_ops.run add column last_day date;
update passport_ops.run set last_day = first_day;
alter table passport_ops.run alter column last_day set not null;
comment on column passport_ops.run.first_day is 'The first of its own days.';
comment on column passport_ops.run.last_day is 'The last of its own days.';

alter table passport.days add column state text not null default 'unread' check (
    state in ('complete', 'lacking', 'open', 'unread')
);
alter table passport.days alter column state drop default;
alter table passport.days add column unread_at timestamptz;
comment on table passport.days is 'One row per business day of the calendar: whether it is whole, and what it lacks.';
comment on column passport.days.complete is 'True where the day was read after its end and no order lacks its link.';
comment on column passport.days.state is
'complete; lacking: read after its end, but orders lack their link; open: it has not ended; unread: it has ended and was not read since.';
comment on column passport.days.unread_at is 'When a load first found it unread; kept afterwards, and null where none did.';
