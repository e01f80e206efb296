"""Progress of long work: one callback, or a bar in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressCallback = Callable[[int, int, str], None]
"""Called as `progress(done, total, message)`: `message` names the item in hand, and may say how fast it goes."""


@contextmanager
def progress_bar(
    progress: bool | ProgressCallback | None = None, title: str = "Working"
) -> Iterator[ProgressCallback]:
    """Yield a function that reports progress, as `progress` says.

        with progress_bar(None, "Loading") as update:
            for number, name in enumerate(names, 1):
                load(name)
                update(number, len(names), name)

    Args:
        progress: a callback of your own; or whether to show a bar. None shows one if
            `fiftyone.config.show_progress_bars` is on
        title: what the bar is called until the first message
    """
    if callable(progress):
        yield progress
        return
    if progress is None:
        import fiftyone as fo

        progress = bool(fo.config.show_progress_bars)
    if not progress:
        yield lambda done, total, message: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, message: str) -> None:
            bar.update(task, completed=done, total=total, description=message)

        yield update
