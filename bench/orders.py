"""What checking the orders costs: the checks over whole columns beside plain Python, row by row, in turn.

``PYTHONPATH=. python -P bench/orders.py [--orders 100000] [--rounds 5]``. The orders are clean, as a driver gives them.
The last line on standard output is one JSON object with the medians in seconds of processor time and the median ratio
of the rounds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from include.campaigns import Campaign, Campaigns
from include.extraction import COLUMNS, check, typed
from include.orders import CheckedOrder

PARIS = ZoneInfo("Europe/Paris")
CARRY_DAYS = 14
MONTH = timedelta(days=30)
CAMPAIGNS = Campaigns(
    (
        Campaign(name="bags", tag="bags-{yyyy}-{mm}", products=("Tote", "Mini"), stale_after=MONTH),
        Campaign(name="rest", tag="rest", products="*", stale_after=MONTH),
    )
)
Row = tuple[Any, ...]


def clean_rows(number: int) -> list[Row]:
    """Give so many orders of one day in Paris: the text and times that a driver gives."""
    midnight, step = datetime(2026, 11, 22, tzinfo=PARIS), timedelta(days=1) / number
    return [
        (f"o{n}", f"o{n}", f"c{n % 5000}", ("Tote", "Mini", "Watch")[n % 3], midnight, midnight + n * step)
        for n in range(number)
    ]


def columns(rows: list[Row]) -> int:
    """Check the rows as the project does; give how many are taken."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return sum(row.reason is None for row in check(typed(frame, PARIS), CAMPAIGNS, PARIS, CARRY_DAYS))


def plain(rows: list[Row]) -> int:
    """Check the rows one by one; give how many are taken."""
    return sum(row.reason is None for row in _plain(rows))


def _plain(rows: list[Row]) -> Iterator[CheckedOrder]:
    for number, (*texts, ordered_at, paid_at) in enumerate(rows, 1):
        key, order_id, customer, product = (str(text).strip() or None for text in texts)
        day = paid_at.astimezone(PARIS).date()
        campaign = CAMPAIGNS.match(product, day)
        assert campaign is not None
        yield CheckedOrder(
            *(number, key, order_id, customer, product, ordered_at.astimezone(UTC), paid_at.astimezone(UTC), day),
            *(campaign.name, campaign.tag_for(day), campaign.on_unknown, campaign.stale_after),
            campaign.carry_until(CARRY_DAYS),
        )


def main() -> int:
    """Measure in turn and print each round, then the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows = clean_rows(given.orders)
    pairs = []
    for _ in range(given.rounds):
        spent = []
        for checks in (plain, columns):
            began = time.process_time()
            assert checks(rows) == given.orders
            spent.append(time.process_time() - began)
        pairs.append(tuple(spent))
        print(f"plain {spent[0]:6.2f} s   columns {spent[1]:6.2f} s", flush=True)
    summary = {
        "orders": given.orders,
        "plain_seconds": round(statistics.median(pair[0] for pair in pairs), 2),
        "columns_seconds": round(statistics.median(pair[1] for pair in pairs), 2),
        "ratio": round(statistics.median(pair[1] / pair[0] for pair in pairs), 2),
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
