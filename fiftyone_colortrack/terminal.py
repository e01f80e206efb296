"""What the commands print: a bar that moves, and tables of scores."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 200)  # files and pipes get whole tables


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar; it is moved by a call with the number done, the number of all, and a text.

    Where the number done falls, another kind of work has begun: the time left is estimated afresh.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal or os.environ.get("RANK", "0") != "0"  # one bar for all of torchrun
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=None)

        def update(done: int, total: int, text: str) -> None:
            if done < progress.tasks[0].completed:
                progress.reset(task)
            progress.update(task, completed=done, total=total, description=text)

        yield update


def score_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """A table with a row for every name, and columns in the order in which the rows first name them.

    What columns' names have in brackets stands below the rest, so that the table stays narrow.
    """
    columns = list(dict.fromkeys(column for scores in rows.values() for column in scores))
    table = Table("", title=title or None)
    for column in columns:
        table.add_column(column.replace(" (", "\n("), justify="right", overflow="fold")
    for name, scores in rows.items():
        table.add_row(name, *(_number(scores.get(column, math.nan)) for column in columns))
    return table


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.1f}"
