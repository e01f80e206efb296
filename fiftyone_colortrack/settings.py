"""The disk: what whoever runs a shared server allows (folders, space), and writing that leaves no half files."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fiftyone_colortrack.errors import ColorTrackError

ALLOWED_ROOTS = "FIFTYONE_COLORTRACK_ALLOWED_ROOTS"
MAX_GB = "FIFTYONE_COLORTRACK_MAX_GB"


def check_allowed(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a file or folder that may be read or written on a user's behalf.

    Args:
        path: a file or folder, which need not exist. Links are followed before it is checked

    Raises:
        ColorTrackError: if `FIFTYONE_COLORTRACK_ALLOWED_ROOTS` is set, and the path is in none of its folders
    """
    resolved = Path(path).expanduser().resolve()
    roots = [
        Path(root).expanduser().resolve()
        for root in os.environ.get(ALLOWED_ROOTS, "").split(os.pathsep)
        if root
    ]
    if roots and not any(resolved.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise ColorTrackError(
            f"{path} is outside the folders that this server allows ({ALLOWED_ROOTS}): {allowed}"
        )
    return resolved


def check_space(folder: str | os.PathLike[str], needed: int = 0) -> None:
    """Check that a folder may grow, before anything is written to it.

    Args:
        folder: need not exist yet
        needed: bytes that the work is expected to write

    Raises:
        ColorTrackError: if the folder with `needed` bytes more exceeds `FIFTYONE_COLORTRACK_MAX_GB`, or the
            disk has fewer bytes free
    """
    folder = Path(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free <= needed:
        raise ColorTrackError(
            f"{folder} needs {needed / 1e6:,.1f} MB, but its disk has only {free / 1e6:,.1f} MB free; free some space"
        )
    quota = os.environ.get(MAX_GB)
    try:
        limit = float(quota or "inf")
    except ValueError as error:
        raise ColorTrackError(f"{MAX_GB} is {quota!r}; set it to a number of GiB, or unset it") from error
    if quota and folder.exists():
        used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if used + needed > limit * 2**30:
            raise ColorTrackError(
                f"{folder} would exceed this server's limit of {quota} GiB ({MAX_GB}); delete files there"
            )


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield another path to write to, then put that file in place of `path`. An error leaves nothing behind.

    Raises:
        ColorTrackError: if the file cannot be written
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise ColorTrackError(
            f"cannot write {path.name} to {path.parent} ({error.strerror}); "
            "free some space there, or choose another folder that you may write to"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
