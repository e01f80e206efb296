import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fiftyone_colortrack.datasets.davis import DavisFolder, load_davis, read_davis, read_mask
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import VideoFile

SAMPLE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "davis2016-dev"
HEIGHT, WIDTH, LENGTH = 40, 61, 4
PALETTE = [value for color in np.random.default_rng(0).integers(0, 256, (256, 3)) for value in color]


def write_frames(root: Path, sequence: str) -> None:
    folder = root / "JPEGImages" / "480p" / sequence
    folder.mkdir(parents=True)
    for t in range(LENGTH):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * t, 80, 120)).save(folder / f"{t:05}.jpg")


def object_ids(t: int) -> np.ndarray:
    """Object 1 moves right, 3 stays and is gone in the last frame, the corner is void."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[5:15, 2 + 5 * t : 12 + 5 * t] = 1
    if t < LENGTH - 1:
        ids[20:35, 50:61] = 3
    ids[:2, :2] = 255
    return ids


@pytest.fixture
def davis2017(tmp_path: Path) -> Path:
    """Sequences one and two (train), and three (test-dev: only the first frame has a mask)."""
    root = tmp_path / "DAVIS"
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("one\ntwo\n")
    (lists / "test-dev.txt").write_text("three\n")
    (lists / "trainval.txt").write_text("one\ntwo\n")
    for name in ("one", "two", "three"):
        write_frames(root, name)
        folder = root / "Annotations" / "480p" / name
        folder.mkdir(parents=True)
        for t in range(LENGTH if name != "three" else 1):
            image = Image.fromarray(object_ids(t), "P")
            image.putpalette(PALETTE)
            image.save(folder / f"{t:05}.png")
    (root / "davis_semantics.json").write_text(json.dumps({"one": {"1": "cat", "3": "box"}}))
    return root


@pytest.fixture
def davis2016(tmp_path: Path) -> Path:
    """Sequences a (train) and b (val), pairs of paths; one mask has an alpha channel, one is an RGB image."""
    root = tmp_path / "DAVIS16"
    lists = root / "ImageSets" / "480p"
    lists.mkdir(parents=True)
    for split, name in (("train", "a"), ("val", "b")):
        write_frames(root, name)
        folder = root / "Annotations" / "480p" / name
        folder.mkdir(parents=True)
        for t in range(LENGTH):
            mask = Image.fromarray(255 * (object_ids(t) == 1).astype(np.uint8))
            mask.convert({1: "LA", 2: "RGB", 3: "1"}.get(t, "L")).save(folder / f"{t:05}.png")
        pairs = [
            f"/JPEGImages/480p/{name}/{t:05}.jpg /Annotations/480p/{name}/{t:05}.png " for t in range(LENGTH)
        ]
        (lists / f"{split}.txt").write_text("\n".join(pairs) + "\n")
    info = "attributes: [AC, OCC, SV]\nsequences:\n- {name: a, attributes: [OCC, SV]}\n- {name: b}\n"
    (root / "Annotations" / "db_info.yml").write_text(info)
    return root


def test_read_2017(davis2017: Path) -> None:
    sequences = {s.name: s for s in read_davis(davis2017)}
    assert {name: s.split for name, s in sequences.items()} == {
        "one": "train",
        "two": "train",
        "three": "test-dev",
    }
    one = sequences["one"]
    assert (one.year, len(one.frames), one.categories) == (2017, LENGTH, {1: "cat", 3: "box"})
    for t in range(LENGTH):
        assert np.array_equal(one.read_mask(t), object_ids(t))
    assert sequences["three"].read_mask(0) is not None
    assert sequences["three"].read_mask(1) is None
    assert [s.name for s in read_davis(davis2017, "trainval")] == ["one", "two"]
    assert [s.name for s in read_davis(davis2017, sequences=["two"])] == ["two"]


def test_read_2016(davis2016: Path) -> None:
    a, b = read_davis(davis2016)
    assert (a.name, a.split, a.attributes) == ("a", "train", ("OCC", "SV"))
    assert (b.name, b.split, b.attributes, b.year) == ("b", "val", (), 2016)
    for t in range(LENGTH):
        assert np.array_equal(a.read_mask(t), object_ids(t) == 1)


def test_the_sample() -> None:
    if not SAMPLE.is_dir():
        pytest.skip("shared/data/davis2016-dev is not beside the project")
    sequences = read_davis(SAMPLE)
    assert sum(len(s.frames) for s in sequences) == 753
    bear = sequences[0]
    assert np.unique(bear.read_mask(77)).tolist() == [0, 1]  # the file with an alpha channel


def remove_frame(root: Path) -> None:
    (root / "JPEGImages" / "480p" / "two" / "00002.jpg").unlink()


def remove_mask(root: Path) -> None:
    (root / "Annotations" / "480p" / "two" / "00001.png").unlink()


def shrink_mask(root: Path) -> None:
    Image.new("P", (WIDTH - 1, HEIGHT)).save(root / "Annotations" / "480p" / "two" / "00003.png")


def break_mask(root: Path) -> None:
    path = root / "Annotations" / "480p" / "two" / "00003.png"
    path.write_bytes(path.read_bytes()[:60])


def color_mask(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "Annotations" / "480p" / "two" / "00003.png")


def break_frame(root: Path) -> None:
    (root / "JPEGImages" / "480p" / "two" / "00002.jpg").write_bytes(b"\xff\xd8 not a picture")


def resize_frame(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT + 3)).save(root / "JPEGImages" / "480p" / "two" / "00002.jpg")


DAMAGES = [
    (remove_frame, r"two/00002\.jpg is missing"),
    (remove_mask, r"two/00001\.png is missing"),
    (shrink_mask, r"two/00003\.png is 60 x 40, but its frame .*two/00003\.jpg is 61 x 40"),
    (break_mask, r"two/00003\.png cannot be read as an image"),
    (color_mask, r"two/00003\.png has no palette"),
    (break_frame, r"two/00002\.jpg cannot be read as an image"),
    (resize_frame, r"two/00002\.jpg is 61 x 43, but .*two/00000\.jpg is 61 x 40"),
]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_named_and_leaves_nothing(
    davis2017: Path, damage: Callable[[Path], None], message: str
) -> None:
    import fiftyone as fo

    damage(davis2017)
    before = fo.list_datasets()
    with pytest.raises(ColorTrackError, match=message):
        load_davis(davis2017, "broken", split="train")
    assert fo.list_datasets() == before
    dataset = load_davis(davis2017, "broken", split="train", on_error="skip")
    assert dataset.values("sequence") == ["one"]
    assert list(dataset.info["skipped"]) == ["two"]
    assert not list(davis2017.glob("colortrack-videos/.*"))
    dataset.delete()


@pytest.mark.usefixtures("database")
def test_load(davis2017: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    dataset = load_davis(davis2017, "d17", video_dir=tmp_path / "v", progress=lambda *args: seen.append(args))
    assert seen == [(1, 3, "three"), (2, 3, "one"), (3, 3, "two")]
    assert dataset.media_type == "video"
    assert dataset.app_config.color_scheme.color_by == "instance"
    one = dataset.match({"sequence": "one"}).first()
    assert one.tags == ["train"]
    assert (one.metadata.frame_width, one.metadata.frame_height) == (62, 40)  # padded to even
    assert (one.metadata.total_frame_count, one.metadata.encoding_str) == (LENGTH, "avc1")
    assert len(VideoFile(one.filepath)) == LENGTH
    instances = {}
    for number, frame in one.frames.items():
        ids = np.zeros((HEIGHT, 62), np.uint8)
        for detection in frame.ground_truth.detections:
            x, y, w, h = np.round(np.array(detection.bounding_box) * [62, 40, 62, 40]).astype(int)
            ids[y : y + h, x : x + w][detection.mask] = detection.index
            instances.setdefault(detection.index, set()).add(detection.instance.id)
            assert detection.label == {1: "cat", 3: "box"}[detection.index]
        truth = object_ids(number - 1)
        assert np.array_equal(ids[:, :WIDTH], np.where(truth == 255, 0, truth))
        assert Path(frame.filepath).name == f"{number - 1:05}.jpg"
    assert {index: len(ids) for index, ids in instances.items()} == {1: 1, 3: 1}
    three = dataset.match({"sequence": "three"}).first()
    assert [frame.ground_truth is not None for frame in three.frames.values()] == [True] + [False] * 3
    assert not dataset.has_sample_field("attributes")
    dataset.delete()


@pytest.mark.usefixtures("database")
def test_videos_are_written_once(davis2016: Path) -> None:
    dataset = load_davis(davis2016, "d16")
    assert dataset.match({"sequence": "a"}).first().attributes == ["OCC", "SV"]
    video = davis2016 / "colortrack-videos" / "a.mp4"
    written = video.stat().st_mtime_ns
    with pytest.raises(ColorTrackError, match="a dataset 'd16' exists"):
        load_davis(davis2016, "d16")
    again = load_davis(davis2016, "d16", overwrite=True)
    assert (len(again), again.name, video.stat().st_mtime_ns) == (2, "d16", written)
    video.write_bytes(video.read_bytes()[:200])
    load_davis(davis2016, "d16", overwrite=True)
    assert len(VideoFile(video)) == LENGTH
    (davis2016 / "JPEGImages" / "480p" / "b" / "00000.jpg").unlink()
    with pytest.raises(ColorTrackError, match="is missing"):
        load_davis(davis2016, "d16", overwrite=True)
    import fiftyone as fo

    assert len(fo.load_dataset("d16")) == 2  # the old one stays
    assert load_davis(davis2016, "fresh", split="train").name == "fresh"
    for name in ("d16", "fresh"):
        fo.delete_dataset(name)


@pytest.mark.usefixtures("database")
def test_a_name_is_taken_by_one_that_fiftyone_takes_for_the_same() -> None:
    import fiftyone as fo

    from fiftyone_colortrack.datasets.video_dataset import check_name, unused_name

    datasets = [fo.Dataset(name) for name in ("DAVIS 2017", "davis_2017-2")]
    assert unused_name("davis-2017") == "davis-2017-3"
    check_name("davis-2017-3")
    with pytest.raises(ColorTrackError, match="a dataset 'DAVIS 2017' exists"):
        check_name("davis-2017", overwrite=True)
    check_name("DAVIS 2017", overwrite=True)
    for dataset in datasets:
        dataset.delete()


@pytest.mark.usefixtures("database")
def test_names_are_checked_first(davis2016: Path) -> None:
    with pytest.raises(ColorTrackError, match="no sequence 'zebra'; there are: a, b"):
        load_davis(davis2016, "d", sequences=["a", "zebra"], on_error="skip")
    assert not (davis2016 / "colortrack-videos").exists()
    with pytest.raises(ColorTrackError, match="no split 'test'; there are: train, val"):
        load_davis(davis2016, "d", split="test")
    davis2016.rename(davis2016.parent / "DAVIS")
    with pytest.raises(ColorTrackError, match=r"is not a DAVIS folder.*use .*/DAVIS$"):
        load_davis(davis2016.parent)


LINES = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=5).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(
    LINES | st.sampled_from(["../../etc/passwd", "/JPEGImages/../../x.jpg y", "a/b", ".."]),
    st.sampled_from(["2017", "480p"]),
)
def test_any_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str, kind: str) -> None:
    root = tmp_path_factory.mktemp("davis")
    (root / "ImageSets" / kind).mkdir(parents=True)
    (root / "ImageSets" / kind / "train.txt").write_text(text, encoding="utf-8")
    try:
        folder = DavisFolder(root)
    except ColorTrackError as refused:
        message = str(refused)
    else:
        message = ""
        check_names(folder)
    assert not message or "train.txt" in message


def check_names(folder: DavisFolder) -> None:
    for name in folder.names:
        assert ".." not in Path(name).parts
        with pytest.raises(ColorTrackError):
            folder.sequence(name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_mask_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("masks") / "m.png"
    mode = data.draw(st.sampled_from(["P", "L", "LA", "RGB", "RGBA", "1", "I;16"]))
    Image.new(mode, (5, 4)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for year in (2016, 2017):
        try:
            ids = read_mask(path, year)
        except ColorTrackError as refused:
            message = str(refused)
        else:
            message = "m.png"
            assert (ids.ndim, ids.dtype) == (2, np.uint8)
        assert "m.png" in message
