-- noqa: disable=PRS
copy pg_temp.incoming_link (attempt_id, certificate_id, link) from stdin (format binary)
