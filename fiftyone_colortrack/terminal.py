"""What the commands print: results on standard output, warnings on standard error, tables of scores."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import partial

from rich.console import Console
from rich.table import Table

_console = partial(Console, markup=False, emoji=False)  # people choose names such as [a].mp4
console = _console(width=None if sys.stdout.isatty() else 200)  # files and pipes get whole tables


def warn(text: str) -> None:
    """Print one line on standard error."""
    _console(stderr=True, soft_wrap=True).print(text, style="yellow", highlight=False)


def score_table(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A table with one row per name, and columns in the order in which the rows first name them.

    Text in parentheses goes on a second line of the column's header, so that the table stays narrow.
    """
    columns = list(dict.fromkeys(column for scores in rows.values() for column in scores))
    table = Table("", title=title or None)
    for column in columns:
        table.add_column(column.replace(" (", "\n("), justify="right", overflow="fold")
    for name, scores in rows.items():
        table.add_row(name, *(_number(scores.get(column)) for column in columns))
    return table


def _number(value: float | None) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if value is None or math.isnan(value) else f"{value:.1f}"
