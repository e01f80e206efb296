"""What all loaders share: names, copies, and files that nobody can load."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.datasets.video_dataset import (
    add_videos,
    build_dataset,
    check_name,
    encode_once,
    unused_name,
)
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import ArrayFrames, VideoFile

pytestmark = pytest.mark.usefixtures("database")
NAME = "shared-name"


@pytest.fixture(autouse=True)
def _clean() -> None:
    yield
    for name in fo.list_datasets(f"{NAME}*"):
        fo.delete_dataset(name)


def annotate(dataset: fo.Dataset) -> None:
    """Somebody works on a dataset."""
    dataset.add_sample(fo.Sample(filepath="/precious.mp4", note="an hour of annotation"))


def load(count: int = 2, overwrite: bool = False, fail: bool = False, act=lambda: None) -> fo.Dataset:
    def make_sample(name: str) -> fo.Sample:
        act()
        if fail:
            raise ColorTrackError(f"{name} is broken")
        return fo.Sample(filepath=f"/{name}.mp4")

    with build_dataset(NAME, overwrite=overwrite) as dataset:
        add_videos(dataset, [f"video-{i}" for i in range(count)], make_sample)
    return dataset


def test_a_name_is_taken_when_loading_begins() -> None:
    def act() -> None:
        with pytest.raises(ColorTrackError, match=f"{NAME}.* is still loading"):
            check_name(NAME)
        with pytest.raises(ColorTrackError, match=NAME):
            load()
        with pytest.raises(ValueError, match=NAME):
            fo.Dataset(NAME)

    dataset = load(1, act=act)
    assert (dataset.name, len(dataset), dict(dataset.info)) == (NAME, 1, {})
    with pytest.raises(ColorTrackError, match=f"'{NAME}' exists"):
        load()


def test_what_somebody_adds_while_a_dataset_loads_is_kept() -> None:
    """Nobody deletes it, even though the loading fails."""
    with pytest.raises(ColorTrackError, match="video-0 is broken"):
        load(fail=True, act=lambda: annotate(fo.load_dataset(NAME)))
    assert fo.load_dataset(NAME).values("note") == ["an hour of annotation"]


def test_a_dataset_is_replaced_when_the_new_one_is_whole() -> None:
    old = load(1)
    with pytest.raises(ColorTrackError, match="broken"):
        load(3, overwrite=True, fail=True)
    assert len(fo.load_dataset(NAME)) == 1
    new = load(3, overwrite=True, act=lambda: len(fo.load_dataset(NAME)) == 1)
    assert old.deleted
    assert (new.name, len(fo.load_dataset(NAME))) == (NAME, 3)
    assert fo.list_datasets(f"{NAME}*") == [NAME]


def test_somebody_makes_a_dataset_while_the_old_one_is_replaced() -> None:
    load(1)

    def act() -> None:
        fo.delete_dataset(NAME)
        annotate(fo.Dataset(NAME))

    with pytest.raises(ColorTrackError, match=NAME):
        load(1, overwrite=True, act=act)
    assert fo.load_dataset(NAME).values("note") == ["an hour of annotation"]
    assert fo.list_datasets(f"{NAME}*") == [NAME]


def test_a_dataset_that_is_deleted_while_it_loads() -> None:
    def act() -> None:
        if fo.dataset_exists(NAME):
            fo.delete_dataset(NAME)

    with pytest.raises(ColorTrackError, match=NAME):
        load(2, act=act)
    assert not fo.dataset_exists(NAME)


def test_a_name_is_taken_by_one_that_fiftyone_takes_for_the_same() -> None:
    datasets = [fo.Dataset(name) for name in ("DAVIS 2017", "davis_2017-2")]
    assert unused_name("davis-2017") == "davis-2017-3"
    check_name("davis-2017-3")
    with pytest.raises(ColorTrackError, match="the dataset 'DAVIS 2017' exists"):
        check_name("davis-2017", overwrite=True)
    check_name("DAVIS 2017", overwrite=True)
    for dataset in datasets:
        dataset.delete()


def test_every_source_has_a_copy_of_its_own(tmp_path: Path) -> None:
    def encode(name: str, level: int) -> tuple[Path, int]:
        source = tmp_path / name
        if not source.exists() or source.read_bytes() != bytes([level]):
            source.write_bytes(bytes([level]))
            os.utime(source, ns=(level, level))
        frames = ArrayFrames(np.full((2, 32, 48, 3), level, np.uint8))
        path, info = encode_once(tmp_path / "videos", "clip", [source], frames, 25)
        assert (info.width, info.height, info.frame_count) == (48, 32, 2)
        return path, round(next(VideoFile(path).read(range(1))).mean())

    first, second, changed = encode("clip.avi", 50), encode("clip.mkv", 100), encode("clip.avi", 150)
    assert [level for _, level in (first, second, changed)] == pytest.approx([50, 100, 150], abs=2)
    assert len({path for path, _ in (first, second, changed)}) == 3
    assert {path.name for path, _ in (first, second, changed)} == {"clip.mp4"}
    assert first[0].is_file()  # another dataset may still show it
    written = second[0].stat().st_mtime_ns
    assert encode("clip.mkv", 100)[0].stat().st_mtime_ns == written


ERRORS = {
    "full": OSError(errno.ENOSPC, "No space left on device", "/videos/full.mp4"),
    "long" * 90: OSError(errno.ENAMETOOLONG, "File name too long"),
    "memory": MemoryError(),
    "value": ValueError("time base"),
    "broken": ColorTrackError("broken.mp4 is broken"),
    "not-utf8-\udcff": None,
    "good": None,
}


def test_whatever_is_wrong_with_a_file_is_named_and_skipped(dataset: fo.Dataset) -> None:
    def make_sample(name: str) -> fo.Sample:
        if error := ERRORS[name]:
            raise error
        return fo.Sample(filepath=f"/{name}.mp4")

    add_videos(dataset, list(ERRORS), make_sample, "skip")
    assert dataset.values("filepath") == ["/good.mp4"]
    skipped = dataset.info["skipped"]
    assert {*skipped} == {name.replace("\udcff", "?") for name in ERRORS} - {"good"}
    for name, text in skipped.items():
        assert name in text
    assert "disk space" in skipped["full"]
    for name in ERRORS.keys() - {"good"}:
        with pytest.raises(ColorTrackError):
            add_videos(dataset, [name], make_sample)
    assert len(dataset) == 1
