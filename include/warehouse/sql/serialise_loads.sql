-- Loads happen one after another; readers read on. First in its transaction, so that the snapshot is taken after the wait.
lock table passport.days in share row exclusive mode;
