-- A readable link of a wrong host or environment is a passport, too: withheld from its order until the connection accepts it.
alter table passport_ops.passport add column read_at timestamptz;
create index passport_withheld on passport_ops.passport (order_key, attempt_id) where state = 'withheld';
comment on table passport_ops.passport is
'One row per passport received from the NMP: an order''s, withheld from it, a spare, or ended. Restricted: it holds links.';
comment on column passport_ops.passport.state is 'assigned, withheld, spare, claimed or ended.';
comment on column passport_ops.passport.order_key is
'The order it belongs or belonged to, or for which it was asked if it is withheld; null for a spare.';
comment on column passport_ops.passport.read_at is
'Of one that is or was withheld: when its link was last compared with the rules of the connection; null until it was again.';
