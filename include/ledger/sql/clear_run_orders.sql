-- The run is planned again.
delete from passport_ops.run_order
where run_id = %(run_id)s;
