-- Of some calls: those whose intent the ledger does not have, because it went back in time since.
select called.attempt_id
from unnest(%(attempt_ids)s::bigint[], %(intent_ids)s::uuid[]) as called (attempt_id, intent_id)
where
    not exists (
        select
        from passport_ops.attempt as call
        where call.attempt_id = called.attempt_id and call.intent_id = called.intent_id
    );
