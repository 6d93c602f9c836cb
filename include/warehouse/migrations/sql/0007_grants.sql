-- A ledger that was restored from a backup, or lost its tail in a failover, has a lower counter than its callers saw, and
-- gives the same numbers to other calls. The counter shows the first, the identity of an intent survives the second.
alter table passport_ops.gate
add column warehouse_id uuid not null default gen_random_uuid(),
add column grants bigint not null default 0,
add column went_back_at timestamptz,
add column remembered bigint;
comment on column passport_ops.gate.warehouse_id is
'The identity of this ledger; what is remembered of it counts for it alone. A recovery gives a new one.';
comment on column passport_ops.gate.grants is
'How many intents and spares were ever granted; never lowered, so a lower number shows a restored ledger.';
comment on column passport_ops.gate.went_back_at is
'When somebody noticed that the ledger went back in time; nothing is granted until a recovery begins. Null: it did not.';
comment on column passport_ops.gate.remembered is 'The number of grants that whoever noticed it remembered.';

alter table passport_ops.attempt
add column intent_id uuid not null default gen_random_uuid();
comment on column passport_ops.attempt.intent_id is
'The identity of the intent: after a restore attempt_id may be given again, this is not.';

-- No NOT NULL here: a violated one would print the row.
alter table passport_ops.answer
add column intent_id uuid;
update passport_ops.answer as kept
set intent_id = call.intent_id
from passport_ops.attempt as call
where kept.attempt_id = call.attempt_id;
alter table passport_ops.answer drop constraint answer_pkey;
alter table passport_ops.answer alter column attempt_id drop not null;
create unique index answer_intent on passport_ops.answer (intent_id);
create index answer_attempt on passport_ops.answer (attempt_id);
comment on column passport_ops.answer.intent_id is 'The intent of the call that it answers.';

comment on column passport_ops.passport.end_reason is
'Why it ended: reset, old_epoch, duplicate, claimed_spare, claimed_before, no_intent.';
