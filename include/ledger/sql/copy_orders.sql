copy pg_temp.incoming_order from stdin;
