import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from fiftyone_colortrack.datasets import download as module
from fiftyone_colortrack.datasets.download import SOURCES, Archive, Source, download, unpack
from fiftyone_colortrack.errors import ColorTrackError


class Server(ThreadingHTTPServer):
    """Serves `files`, at most `limit` bytes a request, and keeps the requests' ranges."""

    files: dict[str, bytes]
    limit: int | None
    ranges: bool
    requests: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.server.limit is None else start + self.server.limit
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        pass


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files = {"/data/D.zip": zipped(DAVIS__a__b=b"b" * 5000, DAVIS__c=b"c")}
    server.limit, server.ranges, server.requests = None, True, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = f"sha256:{hashlib.sha256(server.files['/data/D.zip']).hexdigest()}"
    archive = Archive(f"http://127.0.0.1:{server.server_port}/data/D.zip", (f"md5:{'0' * 32}", digest))
    monkeypatch.setitem(SOURCES, "davis-2017", Source((archive,), "DAVIS", "https://example.org/davis"))
    monkeypatch.setattr(module, "CHUNK", 1000)
    yield server
    server.shutdown()
    server.server_close()


def assert_unpacked(root: Path) -> None:
    assert root.name == "DAVIS"
    assert (root / "a" / "b").read_bytes() == b"b" * 5000
    assert (root / "c").read_bytes() == b"c"


def test_download_unpacks_and_comes_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    root = download("davis-2017", tmp_path / "new", lambda *args: seen.append(args))
    assert_unpacked(root)
    total = len(server.files["/data/D.zip"])
    assert seen[-1] == (total, total, "D.zip")
    assert len(seen) > 1
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert download("davis-2017", tmp_path / "new") == root
    assert len(server.requests) == 1
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"DAVIS", ".D.zip.unpacked", ".download.lock"}


def test_a_broken_connection_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.limit = 1500
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with pytest.raises(ColorTrackError, match=r"D\.zip"):
        download("davis-2017", tmp_path, progress=False)
    assert len(server.requests) == 2
    assert {path.name for path in tmp_path.iterdir()} <= {".download.lock"}
    server.limit = None
    assert_unpacked(download("davis-2017", tmp_path))


@pytest.mark.parametrize("options", ["size=20000", "ro"])
def test_a_full_or_read_only_disk_is_named(
    server: Server, small_disk: Callable[[str], Path], options: str
) -> None:
    server.files["/data/D.zip"] += bytes(10**6)
    folder = small_disk(options)
    with pytest.raises(ColorTrackError, match=str(folder)):
        download("davis-2017", folder, progress=False)
    assert {path.name for path in folder.iterdir()} <= {".download.lock"}


def test_two_downloads_do_not_share_a_folder(server: Server, tmp_path: Path) -> None:
    def progress(done: int, total: int, name: str) -> None:
        with pytest.raises(ColorTrackError, match=str(tmp_path)):
            download("davis-2017", tmp_path)

    assert_unpacked(download("davis-2017", tmp_path, progress))
    assert len(server.requests) == 1


def test_archive_put_there_by_hand(server: Server, tmp_path: Path) -> None:
    (tmp_path / "D.zip").write_bytes(server.files["/data/D.zip"])
    assert_unpacked(download("davis-2017", tmp_path))
    assert server.requests == []
    assert (tmp_path / "D.zip").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "D.zip").write_bytes(b"other")
    with pytest.raises(ColorTrackError, match=r"D\.zip does not have the checksum.*delete it"):
        download("davis-2017", tmp_path / "other")
    assert (tmp_path / "other" / "D.zip").read_bytes() == b"other"  # it is not ours to delete


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["/data/D.zip"] += b"!"
    with pytest.raises(ColorTrackError, match=r"D\.zip does not have the checksum"):
        download("davis-2017", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {".download.lock"}


def test_offline_and_missing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files.clear()
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(ColorTrackError, match=r"404.*D\.zip from https://example\.org/davis.* into"):
        download("davis-2017", tmp_path)
    nowhere = Archive("http://127.0.0.1:9/D.zip", ())
    monkeypatch.setitem(SOURCES, "davis-2017", Source((nowhere,), "DAVIS", "https://example.org/davis"))
    with pytest.raises(ColorTrackError, match="try again"):
        download("davis-2017", tmp_path)
    with pytest.raises(ColorTrackError, match=r"'imagenet'.*davis-2017"):
        download("imagenet", tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "..\\evil", "\\\\host\\evil"]
)
def test_paths_stay_inside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("good", "good")
        file.writestr(zipfile.ZipInfo(name), "evil")
    with pytest.raises(ColorTrackError, match="points outside"):
        unpack(archive, folder)
    tar = tmp_path / "x.tar.gz"
    with tarfile.open(tar, "w:gz") as file:
        info = tarfile.TarInfo(name)
        info.size = 4
        file.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(ColorTrackError, match="points outside"):
        unpack(tar, folder)
    assert not list(folder.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.tar.gz", "x.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ColorTrackError, match="'link' is a link"):
        unpack(archive, tmp_path / "z")
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, "w") as file:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(info)
    with pytest.raises(ColorTrackError, match="'link' is a link or a device"):
        unpack(tar, tmp_path / "z")


def test_link_that_was_there_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder" / "DAVIS").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "x.zip").write_bytes(zipped(DAVIS__a=b"a"))
    with pytest.raises(ColorTrackError, match="points outside"):
        unpack(tmp_path / "x.zip", tmp_path / "folder")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_tar_and_damage(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        info = tarfile.TarInfo("a/b")
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
    unpack(archive, tmp_path / "folder")
    assert (tmp_path / "folder" / "a" / "b").read_bytes() == b"abc"
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(ColorTrackError, match=r"x\.tar\.gz"):
        unpack(archive, tmp_path / "folder")
    archive.write_bytes(b"nothing")
    with pytest.raises(ColorTrackError, match=r"x\.tar\.gz"):
        unpack(archive, tmp_path / "folder")


def encrypted(path: Path) -> None:
    path.write_bytes(zipped(a=b"a" * 99))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the file's header, and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def unknown_method(path: Path) -> None:
    content = bytearray(zipped(a=b"a" * 99))
    content[8] = content[content.index(b"PK\1\2") + 10] = 97
    path.write_bytes(content)


def larger_than_stated(path: Path) -> None:
    content = bytearray(zipped(a=b"a" * 99, b=b"b"))
    content[22] = content[content.index(b"PK\1\2") + 24] = 9
    path.write_bytes(content)


def smaller_than_stated(path: Path) -> None:
    content = bytearray(zipped(a=b"a" * 99))
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = b"\xfe\xff\xff\xff"
    path.write_bytes(content)


def names_clash(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("good", "good")
        file.writestr("A/b", "1")
        file.writestr("a/./B", "2")


def file_and_folder(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "1")
        file.writestr("a/b", "2")


BAD = [encrypted, unknown_method, larger_than_stated, smaller_than_stated, names_clash, file_and_folder]


@pytest.mark.parametrize("make", BAD)
def test_bad_archives_leave_nothing(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.zip")
    with pytest.raises(ColorTrackError, match=r"x\.zip"):
        unpack(tmp_path / "x.zip", tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_an_archive_larger_than_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(a=b"a" * 99))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=98))
    with pytest.raises(ColorTrackError, match=r"x\.zip.*disk space"):
        unpack(tmp_path / "x.zip", tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_files_that_exist_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "x.zip").write_bytes(zipped(a=b"new", b=b"same"))
    (folder / "b").write_bytes(b"same")
    unpack(tmp_path / "x.zip", folder)
    (folder / "a").write_bytes(b"my own")
    (folder / "b").unlink()
    with pytest.raises(ColorTrackError, match=r"folder/a"):
        unpack(tmp_path / "x.zip", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"my own"}


def test_official_archives_have_checksums() -> None:
    for source in SOURCES.values():
        for archive in source.archives:
            assert archive.url.startswith("https://")
            assert archive.digests
            for digest in archive.digests:
                algorithm, value = digest.split(":")
                assert len(bytes.fromhex(value)) == hashlib.new(algorithm).digest_size
