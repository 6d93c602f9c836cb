from collections.abc import Iterator

import pytest

from tests.builders.ledger_rows import LedgerRows


@pytest.fixture
def rows(warehouse: str) -> Iterator[LedgerRows]:
    rows = LedgerRows(warehouse)
    yield rows
    rows.connection.close()
