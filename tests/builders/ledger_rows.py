"""Rows for tests that begin with a ledger in some state, written the way the ledger itself would leave them."""

from datetime import date, timedelta
from itertools import count
from typing import Any

import psycopg

from include.ledger.run_starts import RunStart
from include.warehouse.database import open_session

DAY = timedelta(days=1)
_numbers = count(1)


class LedgerRows:
    """Writes and reads rows of one warehouse; every statement is committed at once."""

    def __init__(self, uri: str):
        self.uri = uri
        self.connection: psycopg.Connection[Any] = open_session(uri, autocommit=True)

    def all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> tuple[Any, ...]:
        (row,) = self.all(query, *values)
        return row

    def do(self, query: str, *values: Any) -> None:
        self.connection.execute(query, values)

    def read(self, *days: date) -> None:
        """Write that extractions of these days were registered after their end."""
        for day in days:
            self.do(
                """
                insert into passport_ops.day (business_day, begins_at, ends_at, read_at, closed_at, closed_by)
                values (%s, %s::timestamp at time zone 'UTC', (%s::date + 1)::timestamp at time zone 'UTC', 'infinity',
                        'infinity', 'a run')
                on conflict do nothing
                """,
                *(day, day, day),
            )

    def tag(self, tag: str, **columns: Any) -> None:
        self.do("insert into passport_ops.tag (tag) values (%s) on conflict do nothing", tag)
        for name, value in columns.items():
            self.do(f"update passport_ops.tag set {name} = %s where tag = %s", value, tag)

    def order(
        self,
        key: str,
        tag: str,
        state: str = "pending",
        *,
        campaign: str = "gift",
        age: timedelta = DAY,
        stale_after: timedelta = 30 * DAY,
        lease: timedelta = timedelta(minutes=1),
        on_unknown: str = "reissue",
    ) -> None:
        """An order in a state without a passport; ``calling`` gets its attempt too, ``lease`` counts from now."""
        self.tag(tag)
        fence = 1 if state == "calling" else 0
        self.do(
            """
            insert into passport_ops.reservation
            (order_key, order_id, campaign, tag, business_day, paid_at, stale_after, state, fence, lease_until,
             on_unknown)
            values (%s, %s, %s, %s, (clock_timestamp() - %s)::date, clock_timestamp() - %s, %s, %s, %s,
                    case when %s = 'calling' then clock_timestamp() + %s end, %s)
            """,
            *(key, key, campaign, tag, age, age, stale_after, state, fence, state, lease, on_unknown),
        )
        if state == "calling":
            self.attempt(key, tag, fence=fence, lease=lease)

    def attempt(self, key: str, tag: str, *, fence: int, lease: timedelta, outcome: str | None = None) -> int:
        (attempt_id,) = self.one(
            """
            insert into passport_ops.attempt
            (order_key, tag, epoch, fence, run_id, run_started_at, caller, intended_at, lease_until, outcome)
            select %s, tag, epoch, %s, 'run', clock_timestamp(), 'test', clock_timestamp(), clock_timestamp() + %s, %s
            from passport_ops.tag where tag = %s returning attempt_id
            """,
            *(key, fence, lease, outcome, tag),
        )
        return int(attempt_id)

    def link(
        self,
        key: str,
        tag: str,
        certificate: str | None = None,
        *,
        age: timedelta = DAY,
        distributed: timedelta | None = None,
        **order: Any,
    ) -> str:
        """An order with its link, reserved ``age`` ago and, if said, published and distributed ``distributed`` ago."""
        if not self.all("select from passport_ops.reservation where order_key = %s", key):
            self.order(key, tag, age=age, **order)
        certificate = self.passport(tag, certificate, state="assigned", order_key=key, age=age)
        self.do(
            """
            update passport_ops.reservation as known
            set state = 'reserved', lease_until = null, fence = fence + 1, passport_id = held.passport_id,
                reserved_at = clock_timestamp() - %s
            from passport_ops.passport as held
            where known.order_key = %s and held.order_key = %s and held.state = 'assigned'
            """,
            *(age, key, key),
        )
        if distributed is not None:
            self.do(
                """
                insert into passport.links (order_key, certificate_id, state, distributed_at)
                values (%s, %s, 'reserved', clock_timestamp() - %s)
                """,
                *(key, certificate, distributed),
            )
        return certificate

    def passport(
        self,
        tag: str,
        certificate: str | None = None,
        *,
        state: str = "spare",
        order_key: str | None = None,
        age: timedelta = DAY,
        end_reason: str | None = None,
    ) -> str:
        self.tag(tag)
        certificate = certificate or str(440105000 + next(_numbers))
        link = f"https://test.arianee.net/{certificate},secret{next(_numbers)}"
        self.do(
            """
            insert into passport_ops.passport
            (certificate_id, link, link_sha256, tag, epoch, state, order_key, received_at, ended_at, end_reason)
            select %s, case when %s <> 'ended' then %s end, sha256(%s), tag, epoch, %s, %s, clock_timestamp() - %s,
                   case when %s = 'ended' then clock_timestamp() end, %s
            from passport_ops.tag where tag = %s
            """,
            *(certificate, state, link, link.encode(), state, order_key, age, state, end_reason, tag),
        )
        return certificate

    def standing(self, key: str) -> tuple[str, bool]:
        """The state of an order and whether it has a live passport."""
        return self.one("select state, passport_id is not null from passport_ops.reservation where order_key = %s", key)  # type: ignore[return-value]

    def passports(self, certificate: str) -> list[tuple[Any, ...]]:
        """State, order, end reason and whether the link is erased, of every passport row of a certificate, in order."""
        return self.all(
            """
            select state, order_key, end_reason, link is null from passport_ops.passport
            where certificate_id = %s order by passport_id
            """,
            certificate,
        )

    def sync_now(self, tag: str) -> None:
        self.do("update passport_ops.tag set claims_synced_at = clock_timestamp() where tag = %s", tag)

    def open(self, run: RunStart) -> None:
        """A start of a run after its first usable answer, so that its calls need not begin one by one."""
        self.connection.execute(
            "insert into passport_ops.run_attempt (run_id, run_started_at, opened_at) values (%s, %s, now())",
            [run.run_id, run.started_at],
        )

    def end_leases(self, *keys: str) -> None:
        """Lets the leases of these orders' calls (of all, if none is named) be over, as if their time had passed."""
        named = {"all": not keys, "keys": list(keys)}
        self.connection.execute(
            """
            with over as (
                update passport_ops.reservation set lease_until = clock_timestamp()
                where state = 'calling' and (%(all)s or order_key = any(%(keys)s))
            )
            update passport_ops.attempt set lease_until = clock_timestamp()
            where outcome is null and lease_until > clock_timestamp() and (%(all)s or order_key = any(%(keys)s))
            """,
            named,
        )

    def reset(self, tag: str = "gift", to: str = "reset") -> None:
        """A reset of a tag, as docs/lifecycle.md says: close, wait for the last lease, then all in one transaction."""
        self.connection.execute("update passport_ops.tag set state = 'resetting' where tag = %s", [tag])
        self.end_leases()
        with self.connection.transaction():
            self.connection.execute("select from passport_ops.tag where tag = %s for update", [tag])
            self.connection.execute(
                """
                update passport_ops.reservation as known
                set state = %s, passport_id = null, fence = known.fence + 1, reset_at = clock_timestamp()
                from passport_ops.passport as held
                where held.passport_id = known.passport_id and held.tag = %s and known.state = 'reserved'
                """,
                [to, tag],
            )
            self.connection.execute(
                """
                update passport_ops.passport
                set state = 'ended', link = null, ended_at = clock_timestamp(), end_reason = 'reset'
                where tag = %s and state in ('assigned', 'spare')
                """,
                [tag],
            )
            self.connection.execute(
                "update passport_ops.tag set state = 'open', epoch = epoch + 1 where tag = %s", [tag]
            )
