-- The run is planned anew.
delete from passport_ops.run_order
where run_id = %(run_id)s;
