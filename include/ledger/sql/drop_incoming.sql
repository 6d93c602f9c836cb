-- Tables of an earlier extraction of this session.
drop table if exists pg_temp.incoming_order, pg_temp.incoming_rejected;
