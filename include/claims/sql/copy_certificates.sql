copy pg_temp.claimed_certificate (certificate_id) from stdin
