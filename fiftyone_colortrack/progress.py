"""Long work in a terminal: progress by one callback or a bar, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressCallback = Callable[[int, int, str], None]
"""Called as `progress(done, total, message)`: `message` names the current item, and may include the speed."""


@contextmanager
def progress_bar(
    progress: bool | ProgressCallback | None = None, title: str = "Working"
) -> Iterator[ProgressCallback]:
    """Yield a function that reports progress, as `progress` says.

        with progress_bar(None, "Loading") as update:
            for number, name in enumerate(names, 1):
                load(name)
                update(number, len(names), name)

    If `done` decreases, another stage of the work begins, and the bar estimates the remaining time from there.

    Args:
        progress: your own callback, or whether to show a bar. None shows one if `fiftyone.config.show_progress_bars` is
            on
        title: title of the bar until the first message
    """
    if callable(progress):
        yield progress
        return
    if progress is None:
        try:
            import fiftyone as fo

            progress = bool(fo.config.show_progress_bars)
        except ImportError:  # trackers, training, and benchmarks do without FiftyOne
            progress = True
    if not progress or os.environ.get("RANK", "0") != "0":  # torchrun: one bar for all processes
        yield lambda done, total, message: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, message: str) -> None:
            if done < bar.tasks[0].completed:
                bar.reset(task)
            bar.update(task, completed=done, total=total, description=message)

        yield update


@contextmanager
def ctrl_c(on_press: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, so that the work can stop after the step in hand.

    The end of the block then raises KeyboardInterrupt. The second Ctrl-C raises it at once. A caller that handles
    Ctrl-C by itself is left alone.

    Args:
        on_press: called at the first Ctrl-C
    """
    pressed = threading.Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        on_press()

    main = threading.current_thread() is threading.main_thread()
    handles = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles:
        signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        if handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed.is_set():
        raise KeyboardInterrupt
