import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fiftyone_colortrack.datasets.download import SOURCES, Archive, Source
from fiftyone_colortrack.errors import ColorTrackError

ROOT = Path(__file__).resolve().parents[2]


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def write_davis(folder: Path) -> None:
    root = folder / "DAVIS"
    (root / "ImageSets" / "2017").mkdir(parents=True)
    for split, name in (("train", "one"), ("val", "two")):
        (root / "ImageSets" / "2017" / f"{split}.txt").write_text(f"{name}\n")
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            path = root / kind / "480p" / name / f"00000.{suffix}"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.ones((20, 30), np.uint8)).save(path)


def write_jhmdb(folder: Path) -> None:
    for name, kind in (("a", 1), ("b", 2)):
        joints = folder / "joint_positions" / "wave" / name / "joint_positions.mat"
        image = folder / "Rename_Images" / "wave" / name / "00001.png"
        for path in (joints, image):
            path.parent.mkdir(parents=True)
        savemat(joints, {"pos_img": np.full((2, 15, 1), 7.0)})
        Image.new("RGB", (30, 20)).save(image)
        (folder / "splits").mkdir(exist_ok=True)
        with (folder / "splits" / "wave_test_split1.txt").open("a") as file:
            file.write(f"{name}.avi {kind}\n")


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


@pytest.fixture
def url(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine with this repository's zoo and small archives of DAVIS and JHMDB."""
    import fiftyone as fo

    monkeypatch.setattr(fo.config, "dataset_zoo_dir", str(tmp_path / "zoo"))
    served = tmp_path / "served"
    served.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    (served / "repository.zip").write_bytes(zipped(ROOT / "zoo"))
    sources: dict[str, Callable[[Path], None]] = {"davis-2017": write_davis, "jhmdb": write_jhmdb}
    for name, write in sources.items():
        write(tmp_path / name)
        content = zipped(tmp_path / name)
        (served / f"{name}.zip").write_bytes(content)
        archive = Archive(f"{base}/{name}.zip", (f"sha256:{hashlib.sha256(content).hexdigest()}",))
        monkeypatch.setitem(SOURCES, name, Source((archive,), SOURCES[name].root, SOURCES[name].page))
    yield f"{base}/repository.zip"
    server.shutdown()
    server.server_close()


def test_a_repository_offers_this_dataset() -> None:
    from fiftyone.zoo.datasets import _find_dataset_metadata

    assert Path(_find_dataset_metadata(str(ROOT))) == ROOT / "zoo" / "datasets" / "fiftyone.yml"


def test_davis_and_jhmdb(url: str) -> None:
    import fiftyone.zoo as foz

    val = foz.load_zoo_dataset(url, split="val", dataset_name="zoo-val")
    assert (val.media_type, val.values("sequence")) == ("video", ["two"])
    assert [field["path"] for field in val.app_config.color_scheme.fields] == ["frames.ground_truth"]
    assert val.first().frames[1].ground_truth.detections[0].index == 1
    everything = foz.load_zoo_dataset(url, dataset_name="zoo-all")
    assert everything.values("sequence") == ["one", "two"]
    jhmdb = foz.load_zoo_dataset(url, split="test", source="jhmdb", dataset_name="zoo-jhmdb")
    assert jhmdb.values("clip") == ["b"]
    assert "frames.keypoints" in jhmdb.skeletons
    for dataset in (val, everything, jhmdb):
        dataset.delete()


def test_offline_says_what_to_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fiftyone.zoo as foz

    monkeypatch.setattr("fiftyone_colortrack.datasets.download.ATTEMPTS", 1)

    source = Source((Archive("http://127.0.0.1:9/D.zip", ()),), "DAVIS", "https://example.org")
    monkeypatch.setitem(SOURCES, "davis-2017", source)
    with pytest.raises(
        ColorTrackError, match=r"Download D\.zip from https://example\.org yourself, put it into .*davis-2017"
    ):
        foz.load_zoo_dataset(url, split="val", dataset_name="zoo-val")
