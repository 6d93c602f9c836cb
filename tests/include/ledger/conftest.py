"""A ledger for each test: the module's warehouse without a row, and one worker that uses it."""

from collections.abc import Iterator

import pytest

from tests.builders.world import World, world


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    """A migrated warehouse without a row, with a ledger for tests to drive."""
    with world(emptied_warehouse) as made:
        yield made
