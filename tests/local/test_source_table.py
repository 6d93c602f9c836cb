from collections.abc import Iterator
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from include.business_day import day_bounds
from include.campaigns import Campaigns
from include.extraction import read_orders
from include.settings import Settings
from local.source_table import OrdersFileError, load_csv
from tests.builders.orders_csv import HEADER

BRAND = Path(__file__).parents[2] / "include" / "brand"

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def orders_db(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as conn:
        yield conn


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "orders.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(conn: Connection) -> list[tuple[object, ...]]:
    return conn.execute("select * from orders order by order_id").fetchall()


def test_a_csv_becomes_the_table_as_text_and_empty_fields_become_null(orders_db: Connection, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffstatus,paid_at, order_id ,customer_id,product,ordered_at,delivered_at\r\n"
        'paid,2026-11-22T10:00:00+01:00,00123,c-1,"Tote, ""red""",soon,x\r\n'
        "\r\n"
        "paid,,1e5,,,,\r\n",
    )
    assert load_csv(orders_db, path) == 2
    assert rows(orders_db) == [
        ("00123", "c-1", 'Tote, "red"', "paid", "soon", "2026-11-22T10:00:00+01:00"),
        ("1e5", None, None, "paid", None, None),
    ]


def test_loading_again_replaces_the_table(orders_db: Connection, tmp_path: Path) -> None:
    orders_db.execute("create table orders (something integer)")
    path = write(tmp_path, f"{HEADER}\na,c,p,paid,,\nb,c,p,paid,,\n")
    assert load_csv(orders_db, path) == 2
    assert load_csv(orders_db, write(tmp_path, f"{HEADER}\nz,c,p,paid,,\n")) == 1
    assert [row[0] for row in rows(orders_db)] == ["z"]


def test_a_header_alone_is_a_table_without_orders(orders_db: Connection, tmp_path: Path) -> None:
    assert load_csv(orders_db, write(tmp_path, HEADER)) == 0
    assert rows(orders_db) == []


COLUMNS = "order_id, customer_id, product, status, ordered_at, paid_at"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", f"is empty; its first line must name the columns {COLUMNS}"),
        ("\n\n", f"is empty; its first line must name the columns {COLUMNS}"),
        (HEADER.replace("paid_at", "payed_at"), "has no column paid_at; name it in the first line"),
        (
            HEADER.replace(",", ";"),
            f"has no column {COLUMNS} (columns are separated by commas); name it in the first line",
        ),
        (f"{HEADER},status", "has two columns named status; keep one"),
        (
            f"{HEADER}\na,c,p,paid,,\nb,c,p,paid,\n",
            "has 5 fields in line 3 where the first line has 6; correct it",
        ),
        (
            f'{HEADER}\na,c,p,paid,,\nb,"c"c,p,paid,,\n',
            "is not a CSV (',' expected after '\"'); save it as a CSV with commas",
        ),
        (f'{HEADER}\na,"c,p,paid,,\n', "is not a CSV (unexpected end of data); save it as a CSV with commas"),
        (f"{HEADER}\na,\0,p,paid,,\n", "has a null character in line 2; save it as a CSV in UTF-8"),
        (f"{HEADER}\né,c,p,paid,,\n".encode("latin-1"), "is not text in UTF-8; save it as a CSV in UTF-8"),
        (b"PK\x03\x04\xff\xfe\x00", "is not text in UTF-8; save it as a CSV in UTF-8"),
    ],
)
def test_a_bad_file_is_one_sentence_and_the_table_stays_as_it_was(
    orders_db: Connection, tmp_path: Path, content: str | bytes, said: str
) -> None:
    load_csv(orders_db, write(tmp_path, f"{HEADER}\nbefore,c,p,paid,,\n"))
    orders_db.commit()
    path = write(tmp_path, content)
    with pytest.raises(OrdersFileError) as raised:
        load_csv(orders_db, path)
    assert str(raised.value) == f"orders file {path} {said}"
    assert [row[0] for row in rows(orders_db)] == ["before"]


def test_a_file_that_is_not_there_is_named_and_no_table_is_made(orders_db: Connection, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(OrdersFileError) as raised:
            load_csv(orders_db, path)
        assert str(raised.value) == f"orders file {path} cannot be read ({why}); give the path of a CSV file"
    assert orders_db.execute("select to_regclass('orders')").fetchone() == (None,)


def test_a_shops_export_without_products_is_served_by_the_shipped_catch_all(
    orders_db: Connection, tmp_path: Path
) -> None:
    """Offsets that change with the season, no product, days that differ in UTC, canceled and unavailable orders."""
    path = write(
        tmp_path,
        f"{HEADER},delivered_at\r\n"
        "a1,c1,,delivered,2017-11-23T23:50:00-02:00,2017-11-24T00:00:00-02:00,2017-12-01T10:00:00-02:00\r\n"
        "a2,c2,,shipped,2017-11-24T09:00:00-02:00,2017-11-24T23:59:00-02:00,\r\n"
        "a3,c3,,processing,2017-11-24T09:00:00-02:00,2017-11-24T22:30:00-02:00,\r\n"
        "a4,c4,,canceled,2017-11-24T09:00:00-02:00,2017-11-24T12:00:00-02:00,\r\n"
        "a5,c5,,unavailable,2017-11-24T09:00:00-02:00,2017-11-24T12:00:00-02:00,\r\n"
        "a6,c6,,invoiced,2017-11-24T09:00:00-02:00,,\r\n"
        "a7,c7,,delivered,2017-11-24T09:00:00-02:00,2017-11-25T00:00:00-02:00,\r\n"
        "a8,c8,,delivered,2017-10-14T23:00:00-03:00,2017-10-15T01:00:00-02:00,\r\n",
    )
    assert load_csv(orders_db, path) == 8
    zone = ZoneInfo("America/Sao_Paulo")
    sql = (BRAND / "extract_orders.sql").read_text()
    shipped = Campaigns.load(BRAND / "campaigns.yaml")

    def served(day: date) -> list[tuple[str | None, str | None]]:
        found = read_orders(
            orders_db,
            sql,
            shipped,
            days=[day_bounds(day, zone)],
            statuses=Settings().order_statuses,
            timezone=zone,
            carry_days=14,
        )
        return [(order.order_key, order.tag) for order in found]

    assert served(date(2017, 11, 24)) == [("a1", "demo-gift"), ("a3", "demo-gift"), ("a2", "demo-gift")]
    assert served(date(2017, 10, 15)) == [("a8", "demo-gift")]
