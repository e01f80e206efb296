"""What workers do in these tests: log what they write, and halt in their second video until they may go on.

So that a worker can be killed in the middle of its work, on machines of any speed.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fiftyone_colortrack.fields import TrackWriter

FOLDER = "COLORTRACK_TEST_GATE"


def install() -> None:
    """For this process; the folder is named in the environment."""
    folder = Path(os.environ[FOLDER])
    add, finish = TrackWriter.add, TrackWriter.finish
    written: list[str] = []

    def log(event: str, writer: TrackWriter) -> None:
        with (folder / "log").open("a") as file:  # one short line: it is appended as a whole
            file.write(f"{event} {os.getpid()} {writer.sample_id}\n")

    def slow_add(writer: TrackWriter, *arguments: object) -> None:
        add(writer, *arguments)
        if written and not (folder / "open").exists():
            log("halted", writer)
            while not (folder / "open").exists():
                time.sleep(0.02)

    def logged_finish(writer: TrackWriter, *arguments: object) -> None:
        finish(writer, *arguments)
        written.append(writer.sample_id)
        log("wrote", writer)

    TrackWriter.add, TrackWriter.finish = slow_add, logged_finish  # type: ignore[method-assign]


def install_death() -> None:
    """Each video kills the first worker that writes it."""
    folder, begin = Path(os.environ[FOLDER]), TrackWriter.begin

    def fatal_begin(writer: TrackWriter, *arguments: object) -> None:
        begin(writer, *arguments)
        if not (mark := folder / writer.sample_id).exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    TrackWriter.begin = fatal_begin  # type: ignore[method-assign]
