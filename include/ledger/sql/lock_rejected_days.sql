-- Readings count the rejected rows of a day one after another, so that each counts what the one before it wrote.
lock table passport_ops.rejected_day in share row exclusive mode;
