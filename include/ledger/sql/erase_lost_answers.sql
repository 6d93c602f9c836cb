-- Raw answers whose intent the ledger lost, once they were read.
delete from passport_ops.answer
where intent_id = any(%(intent_ids)s::uuid[]);
