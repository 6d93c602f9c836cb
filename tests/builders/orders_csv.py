"""The CSV files of a shop's orders, as `make run-once` and the tests' stacks read them."""

import csv
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from local.source_table import SourceOrder

HEADER = ",".join(SourceOrder._fields)


def paid_order(order_id: str, paid_at: datetime, *, product: str = "", customer_id: str = "customer-1") -> SourceOrder:
    """An order that was made and paid at ``paid_at`` (with a time zone)."""
    moment = paid_at.isoformat()
    return SourceOrder(order_id, customer_id, product, "paid", moment, moment)


def write_orders(path: Path, orders: Iterable[SourceOrder]) -> None:
    """Write a CSV file of orders; null becomes an empty field."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(SourceOrder._fields)
        rows.writerows(orders)
