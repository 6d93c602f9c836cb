-- Answers come in by binary copy into tables without any constraint, so that no error or log can hold a link.
create temporary table if not exists incoming_answer (
    attempt_id bigint,
    intent_id uuid,
    status integer,
    body bytea,
    retry_after text,
    failure text,
    error text
) on commit delete rows;
create temporary table if not exists incoming_link (
    attempt_id bigint,
    certificate_id text,
    link text
) on commit delete rows;
