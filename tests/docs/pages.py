"""Read the project's Markdown pages: their tables, their diagrams and what they name."""

import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])


def text_of(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def rows_below(name: str, heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by column, without backticks."""
    below = text_of(name).partition(f"\n## {heading}\n")[2]
    assert below, f"{name} has no heading {heading!r}"
    lines = below.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    header, _, *body = [_cells(line) for line in _while_table(lines[start:])]
    return [dict(zip(header, cells, strict=True)) for cells in body]


def column(rows: list[dict[str, str]], name: str) -> list[str]:
    return [row[name] for row in rows]


def _while_table(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
