import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fiftyone_colortrack.datasets import list_frames
from fiftyone_colortrack.datasets.davis import DavisFolder, DavisSequence, load_davis, read_davis
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


def remove_masks(root: Path) -> None:
    for path in (root / "Annotations" / "480p" / "two").iterdir():
        path.unlink()


def rename_mask(root: Path) -> None:
    path = root / "Annotations" / "480p" / "two" / "00001.png"
    path.rename(path.with_name("00009.png"))


def empty_masks(root: Path) -> None:
    for path in (root / "Annotations" / "480p" / "two").iterdir():
        Image.new("L", (WIDTH, HEIGHT)).save(path)


def shrink_mask(root: Path) -> None:
    Image.new("P", (WIDTH - 1, HEIGHT)).save(root / "Annotations" / "480p" / "two" / "00003.png")


def break_mask(root: Path) -> None:
    path = root / "Annotations" / "480p" / "two" / "00003.png"
    path.write_bytes(path.read_bytes()[:60])


def color_mask(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(root / "Annotations" / "480p" / "two" / "00003.png")


def break_frame(root: Path) -> None:
    (root / "JPEGImages" / "480p" / "two" / "00002.jpg").write_bytes(b"\xff\xd8 not a picture")


def resize_frame(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT + 3)).save(root / "JPEGImages" / "480p" / "two" / "00002.jpg")


DAMAGES = [
    (remove_frame, r"480p/two .*frame 2 .*00003\.jpg"),
    (remove_masks, r"sequence two "),
    (rename_mask, r"two/00009\.png"),
    (empty_masks, r"sequence two .*two/00000\.png"),
    (shrink_mask, r"two/00003\.png is 60 x 40, but its frame .*two/00003\.jpg is 61 x 40"),
    (break_mask, r"two/00003\.png"),
    (color_mask, r"two/00003\.png"),
    (break_frame, r"two/00002\.jpg"),
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
    assert not list(davis2017.glob("colortrack-videos/**/.*"))
    dataset.delete()


def gray(ids: np.ndarray) -> Image.Image:
    return Image.fromarray(ids)


def palette(ids: np.ndarray, colors: list[int] = PALETTE) -> Image.Image:
    image = Image.fromarray(ids, "P")
    image.putpalette(colors)
    return image


def white(ids: np.ndarray) -> Image.Image:
    return Image.fromarray(255 * (ids == 1).astype(np.uint8))


MASKS: dict[str, tuple[Callable[[np.ndarray], Image.Image], dict[int, int]]] = {
    "palette": (palette, {1: 1, 3: 3}),
    "gray ids": (gray, {1: 1, 3: 3}),
    "gray ids as RGB": (lambda ids: gray(ids).convert("RGB"), {1: 1, 3: 3}),
    "16 bits": (lambda ids: Image.fromarray(300 * ids.astype(np.uint16)), {1: 300, 3: 900}),
    "white": (white, {1: 1}),
    "1 bit": (lambda ids: white(ids).convert("1"), {1: 1}),
    "white in a palette": (lambda ids: palette(np.asarray(white(ids))), {1: 1}),
    "white in 16 bits": (lambda ids: Image.fromarray(65535 * (ids == 1).astype(np.uint16)), {1: 1}),
    "colors of DAVIS": (
        lambda ids: Image.fromarray(
            np.array([[0, 0, 0], [128, 0, 0], [0] * 3, [128, 128, 0]], np.uint8)[ids]
        ),
        {1: 1, 3: 3},
    ),
    "0 and 1": (lambda ids: gray((ids == 1).astype(np.uint8)), {1: 1}),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("layout", ["davis2016", "davis2017"])
def test_masks_are_read_as_what_they_mean(request: pytest.FixtureRequest, layout: str, kind: str) -> None:
    root: Path = request.getfixturevalue(layout)
    name = "a" if layout == "davis2016" else "one"
    save, expected = MASKS[kind]
    truth = [np.where(object_ids(t) == 255, 0, object_ids(t)) for t in range(LENGTH)]
    for t, ids in enumerate(truth):
        save(ids).save(root / "Annotations" / "480p" / name / f"{t:05}.png")
    (sequence,) = read_davis(root, sequences=[name])
    for t, ids in enumerate(truth):
        mask = sequence.read_mask(t)
        assert mask is not None
        for id, number in expected.items():
            assert np.array_equal(mask == number, ids == id)
        assert set(np.unique(mask)) <= {0, *expected.values()}


def test_masks_that_lost_their_ids_are_refused(tmp_path: Path) -> None:
    ids = np.zeros((40, 60), np.uint8)
    ids[:10], ids[20:] = 1, 2
    smooth = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(9, 0))
    colors = [(0, 0, 0), (200, 30, 40), (30, 90, 111)]
    rgb = Image.fromarray(np.array(colors, np.uint8)[ids])
    inverted = palette(ids, [255, 255, 255, 0, 0, 0, 9, 9, 9])
    disk = cv2.circle(np.zeros((40, 60), np.uint8), (30, 20), 12, 255, -1)
    edges = Image.fromarray(cv2.GaussianBlur(disk, (5, 5), 0))
    scaled = Image.fromarray(np.array([0, 128, 255], np.uint8)[ids])
    as_float = Image.fromarray(ids.astype(np.float32))
    for image in (smooth, edges, scaled, rgb, rgb.convert("P"), inverted, as_float):
        path = tmp_path / "mask.tiff"
        image.save(path)
        with pytest.raises(ColorTrackError, match=r"mask\.tiff"):
            read_mask(path)


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG"])
def test_folders_as_people_make_them(davis2017: Path, suffix: str) -> None:
    """Other resolution, suffix and first number; no lists; some masks; files that systems leave behind."""
    for kind in ("JPEGImages", "Annotations"):
        (davis2017 / kind / "480p").rename(davis2017 / kind / "Full-Resolution")
        (davis2017 / kind / "Full-Resolution" / "one" / ".DS_Store").write_bytes(b"x")
        (davis2017 / kind / "Full-Resolution" / "one" / "._00000.png").write_bytes(b"x")
        for path in sorted((davis2017 / kind / "Full-Resolution" / "one").glob("0*"), reverse=True):
            number = int(path.stem) + 1
            target = path.with_name(f"{number}{suffix if kind == 'JPEGImages' else path.suffix}")
            if suffix == ".png" and kind == "JPEGImages":
                Image.open(path).save(target)
                path.unlink()
            else:
                path.rename(target)
    (davis2017 / "Annotations" / "Full-Resolution" / "one" / "2.png").unlink()
    (davis2017 / "ImageSets" / "2017" / "._train.txt").write_bytes(b"\0\5\26\7")
    train = davis2017 / "ImageSets" / "2017" / "train.txt"
    train.write_bytes(b"\xef\xbb\xbf" + train.read_bytes().replace(b"\n", b"\r\n"))  # as Notepad does
    (one,) = read_davis(davis2017, "train", ["one"])
    shutil.rmtree(davis2017 / "ImageSets")
    (unlisted,) = read_davis(davis2017, sequences=["one"])
    for sequence in (one, unlisted):
        assert [path.name for path in sequence.frames] == [f"{t}{suffix}" for t in range(1, LENGTH + 1)]
        masks = [sequence.read_mask(t) for t in range(LENGTH)]
        for t, mask in enumerate(masks):
            assert mask is None if t == 1 else np.array_equal(mask, object_ids(t))
    assert (one.split, unlisted.split) == ("train", None)
    assert {s.name for s in read_davis(davis2017)} == {"one", "two", "three"}


def test_a_frame_whose_name_is_not_utf_8(davis2017: Path, tmp_path: Path) -> None:
    frames = davis2017 / "JPEGImages/480p/one"
    path = os.fsdecode(os.fsencode(frames) + b"/00099\xe9.jpg")
    shutil.copy(min(frames.glob("*.jpg")), path)
    dataset = load_davis(davis2017, video_dir=tmp_path / "videos", on_error="skip")
    assert "one" not in dataset.values("sequence")
    assert "00099" in dataset.info["skipped"]["one"]
    dataset.delete()


def test_gaps_in_the_numbers_of_frames(tmp_path: Path) -> None:
    def frames(*names: str) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        return [path.name for path in list_frames(folder)]

    assert frames("10.jpg", "9.jpg", "8.jpg") == ["8.jpg", "9.jpg", "10.jpg"]
    assert frames("f_000.jpg", "f_010.jpg", "f_005.jpg") == ["f_000.jpg", "f_005.jpg", "f_010.jpg"]
    assert frames("b.jpg", "a.jpg", "c.jpg") == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(ColorTrackError, match=r"frame 3 .*4\.jpg"):
        frames("1.jpg", "2.jpg", "4.jpg")
    with pytest.raises(ColorTrackError, match="two images for frame 2"):
        frames("1.jpg", "2.jpg", "02.png", "3.jpg")


@pytest.mark.usefixtures("database")
def test_load(davis2017: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    dataset = load_davis(davis2017, "d17", video_dir=tmp_path / "v", progress=lambda *args: seen.append(args))
    assert seen == [(1, 3, "three"), (2, 3, "one"), (3, 3, "two")]
    assert dataset.media_type == "video"
    assert [field["path"] for field in dataset.app_config.color_scheme.fields] == ["frames.ground_truth"]
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
    import fiftyone as fo

    dataset = load_davis(davis2016, "d16")
    sample = dataset.match({"sequence": "a"}).first()
    assert sample.attributes == ["OCC", "SV"]
    video = Path(sample.filepath)
    assert video.relative_to(davis2016 / "colortrack-videos").name == "a.mp4"
    written = video.stat().st_mtime_ns
    with pytest.raises(ColorTrackError, match="'d16' exists"):
        load_davis(davis2016, "d16")
    again = load_davis(davis2016, "d16", overwrite=True)
    assert (len(again), again.name, video.stat().st_mtime_ns) == (2, "d16", written)
    video.write_bytes(video.read_bytes()[:200])
    load_davis(davis2016, "d16", overwrite=True)
    assert len(VideoFile(video)) == LENGTH
    (davis2016 / "JPEGImages" / "480p" / "b" / "00000.jpg").unlink()
    with pytest.raises(ColorTrackError, match=r"b/00000 is missing"):
        load_davis(davis2016, "d16", overwrite=True)
    assert len(fo.load_dataset("d16")) == 2  # the old one stays
    assert load_davis(davis2016, "fresh", split="train").name == "fresh"
    for name in ("d16", "fresh"):
        fo.delete_dataset(name)


@pytest.mark.usefixtures("database")
def test_names_are_checked_first(davis2016: Path) -> None:
    with pytest.raises(ColorTrackError, match=r"'zebra'.*a, b"):
        load_davis(davis2016, "d", sequences=["a", "zebra"], on_error="skip")
    assert not (davis2016 / "colortrack-videos").exists()
    with pytest.raises(ColorTrackError, match=r"'test'.*train, val"):
        load_davis(davis2016, "d", split="test")
    davis2016.rename(davis2016.parent / "DAVIS")
    with pytest.raises(ColorTrackError, match=r"use .*/DAVIS$"):
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


def read_mask(path: Path) -> np.ndarray:
    """The mask of a sequence that has no other."""
    return DavisSequence("m", (path,), (path,), None, 2017).read_mask(0)


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
    try:
        ids = read_mask(path)
    except ColorTrackError as refused:
        message, ids = str(refused), np.zeros((4, 5), np.uint8)
    else:
        message = "m.png"
    assert "m.png" in message
    assert ids.shape == (4, 5)
    assert ids.dtype in (np.uint8, np.int32)
