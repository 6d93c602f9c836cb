-- Where hand-overs are copied to: no constraint, so that no error or log can hold a link.
create temporary table incoming_hand_over (
    place text,
    order_key text,
    certificate_id text,
    link text
) on commit drop;
