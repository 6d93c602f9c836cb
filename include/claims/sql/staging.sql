-- The NMP's list of claimed certificates of one tag; gone with the transaction.
create temporary table claimed_certificate (
    certificate_id text primary key
) on commit drop;
