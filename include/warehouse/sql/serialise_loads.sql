-- One load at a time; readers are not held up. First in its transaction, so that the snapshot is taken after the wait.
lock table passport.days in share row exclusive mode;
