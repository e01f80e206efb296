from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from fiftyone_colortrack.datasets.jhmdb import JOINTS, LIMBS, JhmdbFolder, load_jhmdb, read_jhmdb
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import open_frames, write_video

SAMPLE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "jhmdb-sample"
HEIGHT, WIDTH, LENGTH = 40, 60, 3
FIRST = "wave/a_wave_1"


def joints_file(count: int = LENGTH) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(5, 35, (2, 15, count))


@pytest.fixture
def jhmdb(tmp_path: Path) -> Path:
    """Two clips of two classes: the first with images and masks, the second with a video only."""
    root = tmp_path / "JHMDB"
    for clip in (FIRST, "run/b_run_2"):
        (root / "joint_positions" / clip).mkdir(parents=True)
        savemat(
            root / "joint_positions" / clip / "joint_positions.mat", {"pos_img": joints_file(), "scale": 1}
        )
    images = root / "Rename_Images" / FIRST
    images.mkdir(parents=True)
    for t in range(LENGTH):
        Image.new("RGB", (WIDTH, HEIGHT), (60 * t, 90, 30)).save(images / f"{t + 1:05}.png")
    masks = np.zeros((HEIGHT, WIDTH, LENGTH), np.uint8)
    masks[10:20, 30:45, :2] = 1
    (root / "puppet_mask" / FIRST).mkdir(parents=True)
    savemat(root / "puppet_mask" / FIRST / "puppet_mask.mat", {"part_mask": masks})
    video = root / "ReCompress_Videos" / "run" / "b_run_2.avi"
    write_video(video.with_suffix(".mp4"), np.zeros((LENGTH, HEIGHT, WIDTH, 3), np.uint8), 30)
    video.with_suffix(".mp4").rename(video)
    (root / "splits").mkdir()
    for number, kind in ((1, 1), (2, 2)):
        (root / "splits" / f"wave_test_split{number}.txt").write_text(f"a_wave_1.avi {kind}\n")
        (root / "splits" / f"run_test_split{number}.txt").write_text(f"b_run_2.avi {3 - kind}\n")
    return root


def test_read(jhmdb: Path) -> None:
    run, wave = read_jhmdb(jhmdb)
    assert (wave.name, wave.action, wave.splits) == ("a_wave_1", "wave", ("split1-train", "split2-test"))
    assert np.allclose(wave.read_joints(), joints_file().transpose(2, 1, 0) - 0.5)
    masks = wave.read_masks()
    assert masks is not None
    assert masks.shape == (LENGTH, HEIGHT, WIDTH)
    assert masks.sum((1, 2)).tolist() == [150, 150, 0]
    assert run.read_masks() is None
    assert len(open_frames(wave.source)) == len(open_frames(run.source)) == LENGTH
    assert [c.name for c in read_jhmdb(jhmdb, "split1-test")] == ["b_run_2"]
    assert [c.name for c in read_jhmdb(jhmdb, clips=["a_wave_1"])] == ["a_wave_1"]


def test_skeleton_reaches_every_joint() -> None:
    assert {joint for limb in LIMBS for joint in limb} == set(range(len(JOINTS)))


@pytest.mark.usefixtures("database")
def test_load(jhmdb: Path) -> None:
    dataset = load_jhmdb(jhmdb, "j")
    wave = dataset.match({"clip": "a_wave_1"}).first()
    assert wave.action.label == "wave"
    assert wave.tags == ["split1-train", "split2-test"]
    for name in ("keypoints", "frames.keypoints"):
        assert dataset.skeletons[name].labels == list(JOINTS)
    instances = set()
    for t in range(LENGTH):
        frame = wave.frames[t + 1]
        (person,), (box,) = frame.keypoints.keypoints, frame.boxes.detections
        truth = joints_file()[:, :, t].T - 0.5
        assert np.allclose(np.array(person.points) * [WIDTH, HEIGHT], truth)
        x, y, w, h = np.array(box.bounding_box) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        expected = [30, 10, 45, 20] if t < 2 else [*truth.min(0), *truth.max(0)]
        assert [x, y, x + w, y + h] == pytest.approx(expected)
        assert len(frame.masks.detections) == (1 if t < 2 else 0)
        assert Path(frame.filepath).name == f"{t + 1:05}.png"
        instances |= {label.instance.id for label in (person, box, *frame.masks.detections)}
    assert len(instances) == 1
    run = dataset.match({"clip": "b_run_2"}).first()
    assert run.filepath.endswith("/b_run_2.mp4")
    assert run.frames[1].filepath is None
    assert run.frames[1].masks is None
    dataset.delete()


@pytest.mark.usefixtures("database")
def test_the_sample(tmp_path: Path) -> None:
    if not SAMPLE.is_dir():
        pytest.skip("shared/data/jhmdb-sample is not beside the project")
    dataset = load_jhmdb(SAMPLE, "sample", video_dir=tmp_path)
    sample = dataset.first()
    assert (sample.action.label, len(sample.frames)) == ("catch", 40)
    assert sample.tags == ["split1-train", "split2-train", "split3-test"]
    points = np.array(sample.frames[1].keypoints.keypoints[0].points) * [320, 240]
    assert points[0].tolist() == pytest.approx([286, 106])
    dataset.delete()


def test_damage_is_named(jhmdb: Path) -> None:
    joints = jhmdb / "joint_positions" / FIRST / "joint_positions.mat"
    clip = read_jhmdb(jhmdb, clips=["a_wave_1"])[0]
    savemat(joints, {"pos_img": np.zeros((2, 14, 3))})
    with pytest.raises(ColorTrackError, match=r"joint_positions\.mat: pos_img must be \[2, 15, frames\]"):
        clip.read_joints()
    savemat(joints, {"pos": np.zeros((2, 15, 3))})
    with pytest.raises(ColorTrackError, match=r"joint_positions\.mat has no matrix 'pos_img'"):
        clip.read_joints()
    joints.write_bytes(joints.read_bytes()[:150])
    with pytest.raises(ColorTrackError, match=r"joint_positions\.mat cannot be read"):
        clip.read_joints()
    (jhmdb / "splits" / "run_test_split1.txt").write_text("b_run_2.avi 1\nb_run_3 x\n")
    with pytest.raises(ColorTrackError, match=r"run_test_split1\.txt, line 2"):
        read_jhmdb(jhmdb)
    with pytest.raises(ColorTrackError, match="is not a JHMDB folder"):
        read_jhmdb(jhmdb.parent)


def test_large_matrices_are_refused_unread(jhmdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = read_jhmdb(jhmdb, clips=["a_wave_1"])[0]
    monkeypatch.setattr("fiftyone_colortrack.datasets.jhmdb.MOST_BYTES", 8 * HEIGHT * WIDTH * LENGTH - 1)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ColorTrackError, match=r"puppet_mask\.mat is too large"):
        clip.read_masks()
    hidden = np.zeros((2, 15), object)
    hidden[0, 0] = np.zeros(HEIGHT * WIDTH * LENGTH)  # which the header of the matrix does not tell
    savemat(clip.joints, {"pos_img": hidden}, do_compression=True)
    assert clip.joints.stat().st_size < 1000
    with pytest.raises(ColorTrackError, match=r"joint_positions\.mat is too large"):
        clip.read_joints()


def test_hidden_files_are_no_data(jhmdb: Path) -> None:
    for path in (
        f"Rename_Images/{FIRST}/._00001.png",
        f"Rename_Images/{FIRST}/Thumbs.db",
        "splits/._wave_test_split1.txt",
        "joint_positions/.DS_Store",
        "joint_positions/wave/._a_wave_1",
    ):
        (jhmdb / path).write_bytes(b"\0\5\26\7")
    (jhmdb / "joint_positions/wave/.a").mkdir()
    (jhmdb / "joint_positions/wave/.a/joint_positions.mat").touch()
    assert [(clip.name, len(clip.frames)) for clip in read_jhmdb(jhmdb)] == [("b_run_2", 1), ("a_wave_1", 3)]


@pytest.mark.usefixtures("database")
def test_loading_checks_what_belongs_together(jhmdb: Path) -> None:
    import fiftyone as fo

    savemat(jhmdb / "joint_positions" / FIRST / "joint_positions.mat", {"pos_img": joints_file(LENGTH + 1)})
    with pytest.raises(ColorTrackError, match=r"joint_positions\.mat has 4 frames, but there are 3"):
        load_jhmdb(jhmdb, "j")
    assert "j" not in fo.list_datasets()
    dataset = load_jhmdb(jhmdb, "j", on_error="skip")
    assert dataset.values("clip") == ["b_run_2"]
    assert list(dataset.info["skipped"]) == ["a_wave_1"]
    savemat(jhmdb / "joint_positions" / FIRST / "joint_positions.mat", {"pos_img": joints_file()})
    savemat(jhmdb / "puppet_mask" / FIRST / "puppet_mask.mat", {"part_mask": np.zeros((9, 9, 3), np.uint8)})
    with pytest.raises(ColorTrackError, match=r"puppet_mask\.mat are 9 x 9, but the frames are 60 x 40"):
        load_jhmdb(jhmdb, "j", overwrite=True)
    with pytest.raises(ColorTrackError, match=r"'split7-train'.*split1-test"):
        load_jhmdb(jhmdb, "k", split="split7-train")
    dataset.delete()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_mat_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("jhmdb")
    path = root / "joint_positions" / "a" / "b" / "joint_positions.mat"
    path.parent.mkdir(parents=True)
    savemat(path, {"pos_img": joints_file()}, do_compression=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(124, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    (root / "ReCompress_Videos" / "a").mkdir(parents=True)
    (root / "ReCompress_Videos" / "a" / "b.avi").touch()
    try:
        shape: tuple[int, ...] = JhmdbFolder(root).clip("b").read_joints().shape[1:]
        message = "joint_positions.mat"
    except ColorTrackError as refused:
        shape, message = (15, 2), str(refused)
    assert shape == (15, 2)
    assert "joint_positions.mat" in message
