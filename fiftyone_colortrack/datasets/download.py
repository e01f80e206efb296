"""Official archives: fetched once, resumed where they broke off, checked, and unpacked inside the folder."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from fiftyone_colortrack.errors import ColorTrackError

ATTEMPTS = 5
CHUNK = 2**20
TIMEOUT = 60  # seconds without a byte

Progress = Callable[[int, int, str], None]
"""Called after every chunk with the bytes done, the bytes of the archive, and its name."""


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Args:
        url: where it is
        digests: ``algorithm:hexadecimal``, one of which its content must have
    """

    url: str
    digests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A dataset's archives.

    Args:
        archives: all of them
        root: the dataset's folder in what they unpack to
        page: where a person can read about it, and download it
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


def download(name: str, folder: str | Path, progress: Progress | None = None) -> Path:
    """Download and unpack a dataset. What is there already is not fetched or unpacked again.

    Args:
        name: one of `SOURCES`
        folder: where to; an archive that somebody put there by hand is taken instead of downloading it
        progress: see `Progress`

    Returns:
        The dataset's folder, for `load_davis` or `load_jhmdb`

    Raises:
        ColorTrackError: if something cannot be downloaded (the message says what to put where), is not what
            it should be, or would be unpacked outside of the folder
    """
    if name not in SOURCES:
        raise ColorTrackError(f"there is no download of {name!r}, only of {', '.join(SOURCES)}")
    source, folder = SOURCES[name], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for archive in source.archives:
        mark = folder / f".{archive.name}.unpacked"
        if not mark.exists():
            _provide(archive, folder, source.page, progress)
            mark.touch()
    return folder / source.root


def _provide(archive: Archive, folder: Path, page: str, progress: Progress | None) -> None:
    path = folder / archive.name
    if path.is_file():  # somebody put it there
        if not _is_official(path, archive):
            raise ColorTrackError(
                f"{path} does not have the checksum of the official archive "
                f"({' or '.join(archive.digests)}): delete it to download it again; "
                "or, if you trust it, unpack it and load the folder"
            )
        unpack(path, folder)
        return
    try:
        _fetch(archive, path, progress)
    except (OSError, http.client.HTTPException) as error:
        raise ColorTrackError(
            f"{archive.url} cannot be downloaded ({error}). Without a network: get {archive.name} from "
            f"{page}, put it into {folder}, and do this again; or load a folder that you have"
        ) from error
    unpack(path, folder)
    path.unlink()


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar archive: its files and folders, no links or devices, all inside the folder.

    Raises:
        ColorTrackError: before anything of it is written, if a member would land outside or is a link; or if
            the archive is damaged
    """
    try:
        with _members(path) as members:
            targets = [_inside(folder, name, path) for name, _ in members]
            for target, (_, open_member) in zip(targets, members, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as content, target.open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ColorTrackError(f"{path} is damaged ({error}); delete it and download it again") from error


_Member = tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """The files in an archive: name, and how to open it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            for info in infos:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ColorTrackError(f"{path}: {info.filename!r} is a link; it is not unpacked")
            yield [(info.filename, partial(archive.open, info)) for info in infos]
        return
    with tarfile.open(path) as tar:
        files = [info for info in tar.getmembers() if not info.isdir()]
        for file in files:
            if not file.isreg():
                raise ColorTrackError(f"{path}: {file.name!r} is a link or a device; it is not unpacked")
        yield [(file.name, partial(_extract, tar, file)) for file in files]


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # it is a regular file
    return content


def _inside(folder: Path, name: str, archive: Path) -> Path:
    for pure in (PurePosixPath(name), PureWindowsPath(name)):
        if pure.is_absolute() or pure.drive or ".." in pure.parts:
            raise ColorTrackError(f"{archive}: {name!r} leads out of the folder; it is not unpacked")
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):  # through a link that was there before
        raise ColorTrackError(f"{archive}: {name!r} leads out of {folder}; it is not unpacked")
    return target


def _fetch(archive: Archive, path: Path, progress: Progress | None) -> None:
    """Download to the path, going on from what an earlier try left in ``<name>.part``."""
    part = path.with_name(f"{path.name}.part")
    for attempt in range(ATTEMPTS):
        try:
            if _fetch_rest(archive, part, progress):
                break
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException):
            if attempt == ATTEMPTS - 1:
                raise
    else:
        raise OSError(f"the connection broke off {ATTEMPTS} times; what came is kept")
    if not _is_official(part, archive):
        part.unlink()
        raise ColorTrackError(
            f"{archive.url} does not have the checksum of the official archive "
            f"({' or '.join(archive.digests)}), so it was deleted; download it again"
        )
    part.rename(path)


def _fetch_rest(archive: Archive, part: Path, progress: Progress | None) -> bool:
    """One request for what is missing; whether the file is complete then."""
    offset = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return True
        raise
    with response:
        if response.status != 206:  # the server sends it from the start
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else 0
        with part.open("ab" if offset else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                offset += len(chunk)
                if progress:
                    progress(offset, total, archive.name)
    return offset >= total


def _is_official(path: Path, archive: Archive) -> bool:
    for digest in archive.digests:
        algorithm, expected = digest.split(":")
        computed = hashlib.new(algorithm, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                computed.update(chunk)
        if computed.hexdigest() == expected:
            return True
    return False
