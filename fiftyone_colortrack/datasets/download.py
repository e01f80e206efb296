"""Official archives: download them once, check them, and unpack them safely."""

from __future__ import annotations

import filecmp
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fiftyone_colortrack.errors import ColorTrackError, check_choice
from fiftyone_colortrack.progress import ProgressCallback, progress_bar
from fiftyone_colortrack.settings import check_allowed, check_space

ATTEMPTS = 3
CHUNK = 2**20
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: its address
        digests: ``algorithm:hexadecimal``; the file must have one of them
    """

    url: str
    digests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A dataset's archives.

    Attributes:
        archives: all of them
        root: the dataset's folder after unpacking
        page: the web page of the dataset, with downloads
    """

    archives: tuple[Archive, ...]
    root: str
    page: str


_JHMDB = "https://files.is.tue.mpg.de/jhmdb"
SOURCES = {
    "davis-2017": Source(
        (
            Archive(
                "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",
                ("sha256:e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",),
            ),
        ),
        "DAVIS",
        "https://davischallenge.org/davis2017/code.html",
    ),
    "davis-2016": Source(
        (
            Archive(
                "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
                # The official scripts of 2017 and of 2016 give one each.
                ("md5:464ebb594dcbc34e012487f4cd0f8213", "md5:0cb3cf9c5617209fa3cc4794e52a2ffa"),
            ),
        ),
        "DAVIS",
        "https://davischallenge.org/davis2016/code.html",
    ),
    "jhmdb": Source(
        (
            Archive(f"{_JHMDB}/splits.zip", ("md5:15b9f2f7a99d63c07f3be0c9ecde43b5",)),
            Archive(f"{_JHMDB}/joint_positions.zip", ("md5:3d1ac91bcb8544ddfdd9547997db239f",)),
            Archive(f"{_JHMDB}/puppet_mask.zip", ("md5:eebf6c6c71faa16709b709b758710d17",)),
            Archive(f"{_JHMDB}/Rename_Images.tar.gz", ("md5:23726fbac4bc69a726dc3daf2e7ab4c1",)),
        ),
        ".",
        "http://jhmdb.is.tue.mpg.de",
    ),
}


def download(name: str, folder: str | Path, progress: bool | ProgressCallback | None = None) -> Path:
    """Download and unpack a dataset. Archives that are already unpacked are not downloaded again.

    Args:
        name: ``davis-2016``, ``davis-2017``, or ``jhmdb``
        folder: folder to download to. An archive that is already there is not downloaded
        progress: a callback that counts bytes, or whether to show a progress bar

    Returns:
        the dataset's folder, for `load_davis` or `load_jhmdb`

    Raises:
        ColorTrackError: if another process is downloading to the folder, an archive cannot be downloaded (the
            message says how to do it by hand), has another checksum, or cannot be unpacked safely
    """
    from filelock import FileLock, Timeout

    check_choice("name", name, SOURCES)
    source, folder = SOURCES[name], check_allowed(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(folder / ".download.lock", timeout=0),
            progress_bar(progress, f"Downloading {name}") as update,
        ):
            for archive in source.archives:
                mark = folder / f".{archive.name}.unpacked"
                if not mark.exists():
                    _provide(archive, folder, source.page, update)
                    mark.touch()
    except Timeout as error:
        raise ColorTrackError(
            f"another process is downloading to {folder}; wait until it is done, or choose another folder"
        ) from error
    except OSError as error:
        raise ColorTrackError(
            f"{folder} cannot be written to ({error.strerror or error}); choose another folder"
        ) from error
    return folder / source.root


def _provide(archive: Archive, folder: Path, page: str, update: ProgressCallback) -> None:
    """Unpack an archive that is in the folder, or else download, unpack, and delete it."""
    import pooch

    given = folder / archive.name
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        path = given if given.is_file() else Path(temporary) / archive.name
        if path is not given:
            _fetch(archive, path, folder, page, update)
        kinds = {digest.partition(":")[0] for digest in archive.digests}
        if not {f"{kind}:{pooch.file_hash(str(path), alg=kind)}" for kind in kinds} & {*archive.digests}:
            raise ColorTrackError(
                f"{path if path is given else archive.url} does not have the checksum of the official "
                f"archive ({' or '.join(archive.digests)}); delete it and download it again, for example "
                f"from {page}"
            )
        unpack(path, folder)


def _fetch(archive: Archive, path: Path, folder: Path, page: str, update: ProgressCallback) -> None:
    import pooch
    from requests import RequestException

    bar = _Bytes(archive.name, update)
    files = {path.name: None}, {path.name: archive.url}
    fetcher = pooch.create(path.parent, "", registry=files[0], urls=files[1], retry_if_failed=ATTEMPTS - 1)
    pooch.get_logger().setLevel("WARNING")
    try:
        fetcher.fetch(path.name, downloader=pooch.HTTPDownloader(bar, chunk_size=CHUNK, timeout=TIMEOUT))
    except (RequestException, ValueError) as error:
        raise ColorTrackError(
            f"{archive.url} cannot be downloaded ({error}). Download {archive.name} from {page} yourself, "
            f"put it into {folder}, and try again"
        ) from error


class _Bytes:
    """Pooch's progress bar, as a progress callback."""

    total = 0

    def __init__(self, name: str, update: ProgressCallback) -> None:
        self._name, self._callback, self._done = name, update, 0

    def update(self, count: int) -> None:
        self._done += count
        self._callback(min(self._done, self.total or self._done), self.total, self._name)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar archive completely, or leave nothing of it.

    Only files and folders are unpacked, and only inside the folder. Files that exist already are kept if they
    have the same content.

    Raises:
        ColorTrackError: if the archive is damaged or encrypted, uses an unknown method, has links or members
            with the same name, points outside the folder, holds more than it claims, or differs from existing files
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary:
            _unpack(path, folder, Path(temporary))
    except ColorTrackError:
        raise
    except Exception as error:  # each compression method has its own
        if isinstance(error, OSError) and error.errno:
            problem = f"cannot be unpacked to {folder} ({error.strerror}); free disk space there"
        else:
            problem = f"is damaged, encrypted, or has an unknown compression ({error}); download it again"
        raise ColorTrackError(f"{path} {problem}") from error


def _unpack(path: Path, folder: Path, unpacked: Path) -> None:
    with _members(path) as members:
        _check(path, members, folder)
        for name, size, open_member in members:
            (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
            with open_member() as content, (unpacked / name).open("xb") as file:
                shutil.copyfileobj(content, file, CHUNK)
            if (unpacked / name).stat().st_size != size:
                raise ColorTrackError(
                    f"{path}: {name!r} is not as large as the archive claims; download it again"
                )
    for name, *_ in members:
        target = folder / name
        if target.exists() and not (target.is_file() and filecmp.cmp(unpacked / name, target, False)):
            raise ColorTrackError(
                f"{target} exists and differs from the file in {path}; move it, or choose another folder"
            )
    for name, *_ in members:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).replace(folder / name)


_Member = tuple[str, int, Callable[[], Any]]


def _check(path: Path, members: list[_Member], folder: Path) -> None:
    """Raise a ColorTrackError if names are unsafe or ambiguous, or the files do not fit on the disk."""
    seen: set[str] = set()
    for name, _, _ in members:
        for pure in (PurePosixPath(name), PureWindowsPath(name)):
            if pure.is_absolute() or pure.drive or ".." in pure.parts:
                raise ColorTrackError(
                    f"{path}: {name!r} points outside the folder, so the archive was not unpacked"
                )
        if not (folder / name).resolve().is_relative_to(folder.resolve()):  # through a link that was there
            raise ColorTrackError(
                f"{path}: {name!r} points outside {folder}, so the archive was not unpacked"
            )
        if str(PurePosixPath(name)).casefold() in seen:
            raise ColorTrackError(f"{path} contains {name!r} twice; unpack it yourself, and load the folder")
        seen.add(str(PurePosixPath(name)).casefold())
    needed = sum(size for _, size, _ in members)
    if needed > shutil.disk_usage(folder).free:
        raise ColorTrackError(f"{path} needs more space than {folder} has; free disk space")
    check_space(folder, needed)


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """The files in an archive: name, stated size, and a function that opens it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            for info in infos:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ColorTrackError(
                        f"{path}: {info.filename!r} is a link, so the archive was not unpacked"
                    )
            yield [(info.filename, info.file_size, partial(archive.open, info)) for info in infos]
        return
    with tarfile.open(path) as tar:
        files = [info for info in tar.getmembers() if not info.isdir()]
        for file in files:
            if not file.isreg():
                raise ColorTrackError(
                    f"{path}: {file.name!r} is a link or a device, so the archive was not unpacked"
                )
        yield [(file.name, file.size, partial(tar.extractfile, file)) for file in files]
