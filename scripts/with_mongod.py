"""Run a command with a MongoDB server of its own: `with_mongod.py FOLDER COMMAND ...`.

FIFTYONE_DATABASE_DIR alone does not keep FiftyOne out of the user's database: where the user has FiftyOne
running, another FiftyOne joins that server, whatever its folder. So a server is started here, on a free port
of this machine, with its data in FOLDER, and the command finds it in FIFTYONE_DATABASE_URI. A server that the
user has named there is used as it is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ensure_mongod import WAY_OUT, mongod_path

START_SECONDS = 60


@contextmanager
def mongod(folder: Path) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "mongod.log"
    where = ["--dbpath", folder, "--logpath", log, "--port", str(port), "--bind_ip", "127.0.0.1"]
    command = [mongod_path(), *where, "--nounixsocket"]
    # In a session of its own: Ctrl-C is for the command, which still needs its database then.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_up(server, port, log)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"FiftyOne's database server did not start; {log} says why.\n{WAY_OUT}")


def main() -> int:
    folder, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        if not os.environ.get("FIFTYONE_DATABASE_URI"):
            os.environ["FIFTYONE_DATABASE_URI"] = stack.enter_context(mongod(Path(folder)))
        child = subprocess.Popen(command)
        try:
            return _wait(child)
        finally:
            child.terminate()
            child.wait()


def _wait(child: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the command has it, too, and ends by itself
            continue


if __name__ == "__main__":
    sys.exit(main())
