-- When the claims of the tag were read, and how many of their certificates the ledger never received.
update passport_ops.tag
set
    claims_synced_at = %(seen_at)s,
    claimed_elsewhere = (
        select count(*)
        from pg_temp.claimed_certificate as listed
        where not exists (
            select from passport_ops.passport as held
            where held.certificate_id = listed.certificate_id
        )
    )
where tag = %(tag)s
returning claimed_elsewhere;
