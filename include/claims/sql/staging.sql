-- The NMP's list of claimed certificates of one tag, dropped at the end of the transaction.
create temporary table claimed_certificate (
    certificate_id text primary key
) on commit drop;
