-- noqa: disable=PRS
copy pg_temp.incoming_answer (attempt_id, intent_id, status, body, retry_after, failure, error) from stdin (format binary)
