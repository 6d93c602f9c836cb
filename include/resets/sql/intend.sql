-- The intent of a reset, committed before the NMP is asked.
insert into passport_ops.tag_reset (tag, run_id, epoch, dry_run)
values (%(tag)s, %(run_id)s, %(epoch)s, false)
returning reset_id, state;
