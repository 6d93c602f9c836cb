-- The orders that are taken are merged by key, chunk after chunk. Other rows may have a key that no index takes.
create index on pg_temp.incoming_order (order_key) where reason is null;
analyze pg_temp.incoming_order;
