"""Markdown tables: the one function that writes them."""

from collections.abc import Iterator, Sequence

_NOT_NUMBERS = ("–", "none", "")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one; columns of numbers are aligned to the right."""
    numeric = [
        bool(rows) and all(row[index][:1].isdigit() or row[index] in _NOT_NUMBERS for row in rows)
        for index in range(len(columns))
    ]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join(' ---: ' if right else ' --- ' for right in numeric)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""
