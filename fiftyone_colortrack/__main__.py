"""The command `colortrack`, as a program: Ctrl-C ends it without a traceback from its first import on."""

from __future__ import annotations

import os
import signal


def end_at_once() -> None:
    """Make signals end this process at once, as long as there is nothing to clean up.

    FiftyOne, while it is imported, catches every exception: a KeyboardInterrupt would have no effect.
    """

    def end(number: int, _: object) -> None:
        os.write(2, b"Stopped.\n")
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def main() -> None:
    """Run the command line, see `cli.main`."""
    end_at_once()
    from fiftyone_colortrack import cli

    cli.main()


if __name__ == "__main__":
    main()
