analyze pg_temp.claimed_certificate;
