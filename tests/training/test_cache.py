from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training import TrainingData
from fiftyone_colortrack.training.cache import FrameCache, clip_weight
from fiftyone_colortrack.video import write_video


def write_image(path: Path, seed: int, size: tuple[int, int] = (120, 160)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(256, size=(4, 4, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return path


def test_cache_holds_the_frames_of_videos_images_and_sequences(videos: Path, tmp_path: Path) -> None:
    sequence = [write_image(tmp_path / "sequence" / f"{i}.png", 0) for i in range(5)]
    photograph = write_image(tmp_path / "photo.png", 9, (300, 600))
    data = TrainingData.collect([videos / "0.mp4", sequence], [photograph])
    cache = FrameCache.open(data, tmp_path / "cache")
    assert [(clip.length, clip.rate) for clip in cache.clips] == [(14, 12.0), (3, 12.0), (1, 12.0)]
    assert cache.sizes.min(1).tolist() == [256] * 18  # small images are enlarged, large ones reduced

    window = cache.windows(np.array([17]), np.array([[0, 256]]))[0].permute(1, 2, 0).numpy()
    image = cv2.resize(cv2.imread(str(photograph))[..., ::-1], (512, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(window.astype(int) - image[:, 256:]).mean() < 2


def test_cache_is_reused_until_a_file_changes(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect([videos / "0.mp4"])
    FrameCache.open(data, tmp_path)
    (index,) = tmp_path.glob("*.json")
    before = index.stat().st_mtime_ns
    FrameCache.open(data, tmp_path)
    assert index.stat().st_mtime_ns == before
    FrameCache.open(TrainingData.collect([videos / "1.mp4"]), tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_budget_is_kept_by_the_longest_videos(videos: Path, tmp_path: Path) -> None:
    photograph = write_image(tmp_path / "photo.png", 9, (256, 256))
    frame = 3 * 256**2
    data = TrainingData.collect([videos / "0.mp4", videos / "1.mp4"], [photograph])
    cache = FrameCache.open(data, tmp_path, budget=11.5 * frame / 2**30)
    assert [clip.length for clip in cache.clips] == [5, 5, 1]


def test_unreadable_files_are_counted_and_not_fatal(videos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    cache = FrameCache.open(TrainingData.collect([videos / "0.mp4", broken]), tmp_path)
    assert list(cache.unreadable) == [str(broken)]
    assert len(cache.clips) == 1
    absent = tmp_path / "absent.mp4"
    with pytest.raises(ColorTrackError, match=r"none of the 2 files.*broken.*absent"):
        FrameCache.open(TrainingData.collect([broken, absent]), tmp_path)


def test_a_video_that_breaks_off_leaves_nothing_in_the_cache(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "0.mp4").read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 4) + whole[3 * len(whole) // 4 :])
    data = TrainingData.collect([broken, videos / "1.mp4"])
    cache = FrameCache.open(data, tmp_path / "cache")
    alone = FrameCache.open(TrainingData.collect([videos / "1.mp4"]), tmp_path / "cache")
    assert list(cache.unreadable) == [str(broken)]
    assert cache.pixels.equal(alone.pixels)


def test_files_are_counted_and_decoding_ends_when_the_callback_raises(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect([videos / "0.mp4", videos / "1.mp4"])
    counted = []
    FrameCache.open(data, tmp_path / "whole", progress=lambda *count: counted.append(count))
    assert counted == [(1, 2, "0.mp4"), (2, 2, "1.mp4")]

    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        FrameCache.open(data, tmp_path / "stopped", progress=stop)
    assert list((tmp_path / "stopped").iterdir()) == []


def test_videos_are_split_at_shot_changes(scene: Callable, tmp_path: Path) -> None:
    frames = scene(1, 10)[0] + [255 - frame for frame in scene(2, 8)[0]]
    write_video(tmp_path / "cut.mp4", frames, 12)
    cache = FrameCache.open(TrainingData.collect([tmp_path / "cut.mp4"]), tmp_path)
    assert [(clip.first, clip.length) for clip in cache.clips] == [(0, 10), (10, 8)]


def test_gray_and_static_clips_weigh_little() -> None:
    rng = np.random.default_rng(0)
    lively = rng.integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    static = lively[:1].repeat(8, 0)
    gray = lively[..., :1].repeat(3, 3)
    assert clip_weight(lively, 12) == 1
    assert clip_weight(static, 12) == clip_weight(gray, 12) == pytest.approx(0.1)
    assert clip_weight(lively[:1], 12) == 1


def test_a_disk_without_room_is_an_error_that_names_the_folder(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "other").write_bytes(bytes(100))
    monkeypatch.setenv("FIFTYONE_COLORTRACK_MAX_GB", "1e-9")
    with pytest.raises(ColorTrackError, match="cache"):
        FrameCache.open(TrainingData.collect([videos / "0.mp4"]), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["other"]
