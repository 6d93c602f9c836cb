-- A spare may have been given to an order since the backup; none is given now.
update passport_ops.passport
set
    state = 'ended',
    link = null,
    ended_at = clock_timestamp(),
    end_reason = 'restored'
where state = 'spare';
