copy orders (order_id, customer_id, product, status, ordered_at, paid_at) from stdin
