"""Any bytes, any form: what comes from outside is read, or refused with a ColorTrackError.

Split files and masks of DAVIS, joints of JHMDB and lists of Kinetics have such tests beside their loaders.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext
from fiftyone.operators.registry import OperatorRegistry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from colortrack_benchmarks.badja import read_badja
from fiftyone_colortrack.datasets.davis import DavisFolder
from fiftyone_colortrack.datasets.download import unpack
from fiftyone_colortrack.datasets.jhmdb import JhmdbClip, JhmdbFolder
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import create_tracks_field
from fiftyone_colortrack.model.weights import load_model, read_info
from fiftyone_colortrack.plugin import CLASSES, params
from fiftyone_colortrack.video import VideoFile, probe
from tests.faults.conftest import SOAK

PLUGIN = "@colortrack/fiftyone-colortrack"
fuzz = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def is_refused(read: Callable[[], object], *names: str) -> bool:
    """Whether data was refused, with the name of its file; any other error is an error."""
    try:
        read()
    except ColorTrackError as error:
        refused = str(error)
    else:
        return False
    assert any(name in refused for name in names), refused
    return True


def damaged(data: st.DataObject, content: bytes, start: int = 0) -> bytes:
    """Some bytes changed, and perhaps the end cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(start, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(len(changed) // 2, len(changed)))])


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Path]:
    """A path of a given name in a folder of its own, at each call."""
    numbers = count()

    def make(name: str) -> Path:
        path = tmp_path / str(next(numbers)) / name
        path.parent.mkdir(parents=True)
        return path

    return make


@fuzz
@given(st.data())
def test_video_files(film: Callable, scene: Callable, new: Callable, data: st.DataObject) -> None:
    container, codec = data.draw(st.sampled_from([("mp4", "libx264"), ("avi", "mjpeg"), ("mkv", "mpeg4")]))
    path = film(
        new(f"video.{container}"),
        scene(32, 48, 3),
        codec=codec,
        pixels="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )
    path.write_bytes(damaged(data, path.read_bytes()))

    def read() -> None:
        frames = VideoFile(path)
        assert probe(path).frame_count >= 0
        for frame in frames.read(range(len(frames))):
            assert frame.shape == (frames.height, frames.width, 3)

    is_refused(read, "video.")


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@fuzz
@given(
    st.binary(max_size=40)
    | VALUES.map(safetensors)
    | VALUES.map(lambda facts: safetensors({"__metadata__": facts}))
    | VALUES.map(
        lambda facts: safetensors({"__metadata__": {"format": "fiftyone-colortrack", "colortrack": facts}})
    )
    | st.tuples(VALUES, VALUES, VALUES).map(
        lambda facts: safetensors(
            {
                "__metadata__": {
                    "format": "fiftyone-colortrack",
                    "sha256": "0",
                    "colortrack": json.dumps(dict(zip(("preset", "scores", "options"), facts, strict=True))),
                }
            }
        )
    )
)
def test_weights(new: Callable, content: bytes) -> None:
    path = new("model.safetensors")
    path.write_bytes(content)
    is_refused(lambda: read_info(path), "model.safetensors")
    assert is_refused(lambda: load_model(path, "cpu"), "model.safetensors", "preset")


@fuzz
@given(st.text(max_size=60) | VALUES.map(json.dumps))
def test_lists_of_davis(new: Callable, text: str) -> None:
    lists = new("DAVIS") / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("bear\n")
    root = lists.parents[1]
    for name in ("db_info.yml", "davis_semantics.json"):
        (root / name).write_bytes(text.encode("utf-8", "replace"))
        is_refused(lambda: DavisFolder(root), name)
        (root / name).unlink()


@fuzz
@given(st.text(max_size=60) | st.text(max_size=20).map(lambda text: f"clip.avi 1\n{text}.avi 2"))
def test_splits_of_jhmdb(new: Callable, text: str) -> None:
    root = new("JHMDB")
    joints = root / "joint_positions" / "wave" / "clip" / "joint_positions.mat"
    joints.parent.mkdir(parents=True)
    joints.touch()
    (root / "splits").mkdir()
    (root / "splits" / "wave_test_split1.txt").write_bytes(text.encode("utf-8", "replace"))
    is_refused(lambda: JhmdbFolder(root), "wave_test_split1.txt")


@fuzz
@given(st.data())
def test_puppet_masks_of_jhmdb(new: Callable, data: st.DataObject) -> None:
    path = new("puppet_mask.mat")
    array = data.draw(
        st.sampled_from(
            [np.ones((4, 5, 2), np.uint8), np.ones((4, 5)), np.array("text"), np.empty((0, 0, 0)), [{}]]
        )
    )
    savemat(path, {"part_mask": array})
    path.write_bytes(damaged(data, path.read_bytes(), 124))
    clip = JhmdbClip("clip", "wave", (path,), path, path, ())

    def read() -> None:
        masks = clip.read_masks()
        assert masks is not None
        assert (masks.ndim, masks.dtype) == (3, bool)

    is_refused(read, "puppet_mask.mat")


@fuzz
@given(
    st.text(max_size=40)
    | VALUES.map(json.dumps)
    | st.tuples(VALUES, VALUES, VALUES).map(
        lambda v: json.dumps([dict(zip(("image_path", "joints", "visibility"), v, strict=True))])
    )
    | VALUES.map(
        lambda joints: json.dumps([{"image_path": "00000.jpg", "joints": [[joints, 1]], "visibility": [1]}])
    )
)
def test_joints_of_badja(new: Callable, text: str) -> None:
    root = new("DAVIS")
    for folder in ("ImageSets/2017", "JPEGImages/480p/bear", "Annotations/480p/bear", "joints"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\n")
    Image.new("RGB", (8, 6)).save(root / "JPEGImages/480p/bear/00000.jpg")
    Image.new("P", (8, 6)).save(root / "Annotations/480p/bear/00000.png")
    (root / "joints" / "bear.json").write_bytes(text.encode("utf-8", "replace"))
    is_refused(lambda: read_badja(root / "joints", root), "bear.json")


@fuzz
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00"])
)
def test_archives(new: Callable, content: bytes, magic: bytes) -> None:
    path = new("archive.zip")
    path.write_bytes(magic + content)
    is_refused(lambda: unpack(path, path.parent / "folder"), "archive.zip")
    assert {p.name for p in path.parent.iterdir()} <= {"archive.zip", "folder"}


OPERATORS = {cls().config.name: cls for cls in CLASSES}
FORMS = sorted({*OPERATORS} - {"colortrack_panel", "continue_in_background", "track_scores", "track_shard"})
NAMES = sorted(
    {*params.WHOLE_NUMBERS, *params.SHARES, *params.SWITCHES, *params.TEXTS, "folder", "sequences"}
)
WORDS = st.sampled_from(
    ["frames.seed", "seed", "tracks", "all", "keyframes", "fast", "", "../..", "a b", "\0"]
)


@pytest.mark.parametrize("name", FORMS)
@settings(fuzz, max_examples=200 if SOAK else 4)
@given(values=st.dictionaries(st.sampled_from(NAMES), WORDS | VALUES, max_size=6))
def test_forms(database: None, form_dataset: fo.Dataset, name: str, values: dict[str, Any]) -> None:
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/{name}")
    request = {"dataset_name": form_dataset.name, "params": values}
    ctx = ExecutionContext(request_params=request, operator_uri=operator.uri)
    form = operator.resolve_input(ctx)
    assert "Something went wrong" not in str(form.to_json())
    asked = {name for name, prop in form.type.properties.items() if not isinstance(prop.type, types.Void)}
    assert asked <= {*NAMES}  # that is, none is taken as it comes


@pytest.fixture(scope="module")
def form_dataset(database: None) -> Any:
    dataset = fo.Dataset()
    sample = fo.Sample(filepath="video.mp4")
    sample.frames[1] = fo.Frame(seed=fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])]))
    sample.frames[2] = fo.Frame(tracks=sample.frames[1].seed.copy())
    dataset.add_sample(sample)
    create_tracks_field(dataset, "tracks", "seed", None)
    yield dataset
    dataset.delete()
