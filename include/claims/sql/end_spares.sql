-- A spare or withheld passport that somebody claimed is never used: this ledger gave its link to nobody.
update passport_ops.passport as spare
set
    state = 'ended',
    link = null,
    claimed_at = %(seen_at)s,
    ended_at = clock_timestamp(),
    end_reason = 'claimed_spare'
from pg_temp.claimed_certificate as listed
where
    spare.certificate_id = listed.certificate_id
    and spare.state in ('spare', 'withheld');
