-- noqa: disable=PRS
copy pg_temp.incoming_hand_over (place, order_key, certificate_id, link) from stdin (format binary)
