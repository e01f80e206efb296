from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_colortrack.datasets import ENCODED
from fiftyone_colortrack.datasets.kinetics import load_kinetics, read_kinetics
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training import TrainingData
from fiftyone_colortrack.video import VideoFile, write_video

SAMPLE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "kinetics-sample"
FRAMES = np.zeros((3, 32, 48, 3), np.uint8)


def clip(path: Path) -> Path:
    write_video(path.with_suffix(".mp4"), FRAMES, 25)
    return path.with_suffix(".mp4").rename(path)


def mjpeg(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def found(root: Path, **options) -> dict[str, tuple[str | None, str | None]]:
    return {c.path.stem: (c.label, c.split) for c in read_kinetics(root, **options)}


def test_class_folders(tmp_path: Path) -> None:
    for path in (
        "train/abseiling/a.mp4",
        "validation/zumba/b.webm",
        "zumba/c.MKV",
        "val/d.mp4",
        "e.mp4",
        "f.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    everything = {
        "a": ("abseiling", "train"),
        "b": ("zumba", "val"),
        "c": ("zumba", None),
        "d": (None, "val"),
        "e": (None, None),
    }
    assert found(tmp_path) == everything
    assert set(found(tmp_path, split="validate")) == {"b", "d"}
    assert set(found(tmp_path, classes=["zumba"])) == {"b", "c"}
    assert len(found(tmp_path, max_samples=2)) == 2
    with pytest.raises(ColorTrackError, match=r"no videos of split 'test'; its splits: .*; its classes: "):
        read_kinetics(tmp_path, "test")


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    for path in ("zumba/a.mp4", "zumba/._a.mp4", "__MACOSX/zumba/b.mp4", ".hidden/c.mp4", "._list.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"\0\5\26\7")
    assert set(found(tmp_path)) == {"a"}


def test_every_video_is_found_but_those_that_loaders_encoded(tmp_path: Path) -> None:
    root = tmp_path / ENCODED / "clips"  # a folder around the clips may have that name
    for path in (root / "zumba" / "a.mpg", root / "zumba" / "b.mpeg", root / ENCODED / "zumba" / "c.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(found(root)) == {"a", "b"}
    assert [path.stem for path in TrainingData.collect(root).videos] == ["a", "b"]


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "val.csv").write_text(
        "\ufefflabel,youtube_id,time_start,time_end,split,is_cc\n"
        '"eating, fast",-_Ab3456789,10,20,validate,0\n'
        "zumba,twice_in_it,5,15,validate,0\n"
        "abseiling,twice_in_it,30,40,validate,1\n"
    )
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nzumba,R6llTwEh07w,1.0,11,train\n"
    )
    for name in ("-_Ab3456789_000010_000020", "R6llTwEh07w", "twice_in_it_000005_000015", "unlisted"):
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "twice_in_it_000030_000040.mp4").touch()
    assert found(tmp_path) == {
        "-_Ab3456789_000010_000020": ("eating, fast", "val"),
        "R6llTwEh07w": ("zumba", "train"),
        "twice_in_it_000005_000015": ("zumba", "val"),
        "twice_in_it_000030_000040": ("abseiling", "val"),
        "unlisted": (None, None),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "must have the columns label and youtube_id"),
        (b"", "must have the columns"),
        (b"label,youtube_id,time_start\nzumba,abc,soon\n", "line 2.*'soon'"),
        (b"label,youtube_id\nzumba,\n", "line 2.*no youtube_id"),
        (b"\xff\xfe\x00label", "cannot be read as a list"),
    ],
)
def test_bad_lists_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.mp4").touch()
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(ColorTrackError, match=rf"train\.csv.*{message}"):
        read_kinetics(tmp_path)


@pytest.mark.usefixtures("database")
def test_load_counts_broken_clips_and_encodes_what_browsers_cannot_play(tmp_path: Path) -> None:
    clip(tmp_path / "zumba" / "good.mp4")
    (tmp_path / "zumba" / "broken.mp4").write_bytes(b"\x00" * 500)
    mjpeg(tmp_path / "abseiling" / "old.avi")
    dataset = load_kinetics(tmp_path, "k", on_error="skip")
    for _ in range(2):  # the encoded videos are not taken for clips
        samples = {Path(sample.filepath).name: sample for sample in dataset}
        assert set(samples) == {"good.mp4", "old.mp4"}
        assert list(dataset.info["skipped"]) == ["zumba/broken.mp4"]
        assert samples["good.mp4"].action.label == "zumba"
        assert samples["old.mp4"].action.label == "abseiling"
        assert samples["old.mp4"].metadata.encoding_str == "avc1"
        assert (
            len(VideoFile(samples["old.mp4"].filepath)) == samples["old.mp4"].metadata.total_frame_count == 3
        )
        dataset = load_kinetics(tmp_path, "k", overwrite=True, on_error="skip")
    with pytest.raises(ColorTrackError, match=r"broken\.mp4"):
        load_kinetics(tmp_path, "k2")
    with pytest.raises(ColorTrackError, match=r"1 videos .*broken\.mp4"):
        load_kinetics(tmp_path, "k2", classes=["zumba"], max_samples=1, on_error="skip")
    dataset.delete()


@pytest.mark.usefixtures("database")
def test_the_sample(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip("shared/data/kinetics-sample is not beside the project")
    dataset = load_kinetics(SAMPLE, "sample", video_dir=tmp_path)
    assert sorted((s.metadata.frame_width, s.metadata.total_frame_count) for s in dataset) == [
        (340, 303),
        (340, 332),
    ]
    assert not list(tmp_path.iterdir())
    dataset.delete()


@pytest.mark.usefixtures("database")
def test_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fiftyone as fo
    import fiftyone.zoo as foz

    calls = []

    def download(name: str, **options) -> fo.Dataset:
        calls.append((name, options["split"], options["classes"], options["max_samples"]))
        dataset = fo.Dataset(options["dataset_name"])
        video = fo.Sample(
            filepath=str(clip(tmp_path / "a.mp4")), ground_truth=fo.Classification(label="zumba")
        )
        dataset.add_sample(video)
        return dataset

    monkeypatch.setattr(foz, "load_zoo_dataset", download)
    before = fo.list_datasets()
    dataset = load_kinetics("kinetics-400", "k", split="validation", classes=["zumba"], max_samples=1)
    assert calls == [("kinetics-400", "validation", ["zumba"], 1)]
    assert dataset.first().action.label == "zumba"
    assert dataset.first().metadata.total_frame_count == 3
    dataset.delete()
    assert fo.list_datasets() == before

    monkeypatch.setattr(foz, "load_zoo_dataset", SimpleNamespace().__getattribute__)
    with pytest.raises(ColorTrackError, match="kinetics-400 cannot be downloaded"):
        load_kinetics("kinetics-400", "k")
    with pytest.raises(ColorTrackError, match="nowhere"):
        load_kinetics(tmp_path / "nowhere", "k")
    assert fo.list_datasets() == before


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80) | st.text(max_size=60).map(lambda t: f"label,youtube_id,time_start,split\n{t}"))
def test_any_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("kinetics")
    (root / "v.mp4").touch()
    (root / "train.csv").write_text(text.encode("utf-8", "replace").decode(), encoding="utf-8", newline="")
    try:
        clips = read_kinetics(root)
        message = "train.csv"
    except ColorTrackError as refused:
        clips, message = [], str(refused)
    assert len(clips) <= 1
    assert "train.csv" in message
