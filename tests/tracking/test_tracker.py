from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.tracking import (
    Seed,
    StreamTracker,
    TrackedFrame,
    Tracker,
    TrackerConfig,
    affinity,
    propagator,
)
from fiftyone_colortrack.tracking.labels import LOST
from fiftyone_colortrack.tracking.propagator import ColorPropagator

SIZE = (128, 176)
SMALL = TrackerConfig(input_size=128, memory=3, detail="coarse")


def texture(height: int, width: int, seed: int, hue: int) -> np.ndarray:
    """A patch of blotches around a hue, uint8 RGB."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.random((height // 8, width // 8, 3), np.float32), (width, height))
    hsv = np.stack(
        [(hue + 20 * noise[..., 0]) % 180, 120 + 100 * noise[..., 1], 60 + 190 * noise[..., 2]], -1
    )
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def scene(frames: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Two textured discs that move over a still background: video, object ids."""
    background = texture(*SIZE, seed=0, hue=60)
    skins = {1: texture(*SIZE, seed=1, hue=0), 2: texture(*SIZE, seed=2, hue=120)}
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    video, masks = [], []
    for t in range(frames):
        frame, ids = background.copy(), np.zeros(SIZE, np.uint8)
        for i, (cx, cy) in {1: (40 + 4 * t, 40), 2: (130 - 3 * t, 90)}.items():
            inside = (x - cx) ** 2 + (y - cy) ** 2 < 26**2
            moved = np.roll(skins[i], (cy, cx), (0, 1))
            frame[inside], ids[inside] = moved[inside], i
        video.append(frame)
        masks.append(ids)
    return np.stack(video), np.stack(masks)


def track(frames, seeds, **options) -> dict[int, np.ndarray]:
    tracker = Tracker(frames, seeds, **{"model": "lab", "config": SMALL, **options})
    tracked = list(tracker)
    assert len(tracked) == len(tracker)
    return {frame.frame: frame for frame in tracked}


def test_new_white_things_are_not_taken_for_a_colored_object():
    """White resembles red more than a middle gray if only the direction of Lab values counts."""
    video = np.full((6, 120, 160, 3), 110, np.uint8)
    masks = np.zeros(video.shape[:3], np.uint8)
    for t in range(6):
        video[t, 60:84, 10 + 3 * t : 34 + 3 * t] = (230, 30, 30)
        masks[t, 60:84, 10 + 3 * t : 34 + 3 * t] = 1
        video[t, :20, : 20 * t] = 255
    tracked = track(video, masks[0], config=None)
    for t in range(6):
        assert jaccard(tracked[t].labels == 1, masks[t] == 1) > 0.85, t


def test_follows_two_objects():
    video, masks = scene()
    tracked = track(video, masks[0])
    assert list(tracked) == list(range(10))
    for t in range(10):
        for i in (1, 2):
            assert jaccard(tracked[t].labels == i, masks[t] == i) > 0.85, (t, i)
    assert np.array_equal(tracked[0].labels, masks[0])
    assert tracked[0].drawn == {1, 2}
    assert tracked[5].drawn == frozenset()
    assert all(0 < tracked[9].confidence[i] <= 1 for i in (1, 2))


def test_backward_is_forward_on_the_reversed_video():
    video, masks = scene()
    backward = track(video, Seed(9, masks[9]), direction="backward")
    forward = track(video[::-1], masks[9], direction="forward")
    both = track(video, Seed(9, masks[9]))
    assert list(backward) == list(range(9, -1, -1))
    for t in range(10):
        assert np.array_equal(backward[t].labels, forward[9 - t].labels)
        # With "both", soft labels wait in half precision.
        assert (both[t].labels == backward[t].labels).mean() > 0.999


def test_a_labeled_frame_in_the_middle_goes_both_ways():
    video, masks = scene()
    seed = Seed(5, masks[5])
    assert list(track(video, seed)) == list(range(10))
    assert list(track(video, seed, direction="forward")) == list(range(5, 10))
    assert list(track(video, seed, direction="backward")) == list(range(5, -1, -1))
    for t, frame in track(video, seed).items():
        assert jaccard(frame.labels > 0, masks[t] > 0) > 0.8


def test_several_labeled_frames_are_better_than_one():
    video, masks = scene(20)
    video = np.clip(video + np.random.default_rng(0).normal(0, 60, video.shape), 0, 255).astype(np.uint8)
    one = track(video, masks[0])
    three = track(video, [Seed(t, masks[t]) for t in (0, 10, 19)])
    assert list(three) == list(range(20))

    def score(tracked):
        return np.mean(
            [jaccard(frame.labels == i, masks[t] == i) for t, frame in tracked.items() for i in (1, 2)]
        )

    assert score(three) > score(one) + 0.01
    for t in (0, 10, 19):
        assert np.array_equal(three[t].labels, masks[t])


def test_an_object_joins_where_it_is_first_labeled():
    video, masks = scene(12)
    only_one, only_two = (np.where(masks == i, i, 0).astype(np.uint8) for i in (1, 2))
    for direction in ("both", "forward"):
        tracked = track(video, [Seed(0, only_one[0]), Seed(6, only_two[6])], direction=direction)
        for t in range(12):
            assert set(np.unique(tracked[t].labels)) - {0} == ({1} if t < 6 else {1, 2}), t
            for i in (1,) if t < 6 else (1, 2):
                assert jaccard(tracked[t].labels == i, masks[t] == i) > 0.8, (t, i)
        assert tracked[6].drawn == {2}
        assert np.array_equal(tracked[6].labels == 2, masks[6] == 2)


def test_boxes_and_points():
    video, masks = scene()
    centers = {
        i: np.array([[x.mean() + 0.5, y.mean() + 0.5] for y, x in [np.nonzero(masks[0] == i)]])
        for i in (1, 2)
    }
    boxes = {i: np.concatenate([c[0] - 26, c[0] + 26]) for i, c in centers.items()}
    tracked = track(video, boxes, kind="boxes")[9].labels
    np.testing.assert_allclose(tracked[1], boxes[1] + [36, 0, 36, 0], atol=8)
    np.testing.assert_allclose(tracked[2], boxes[2] - [27, 0, 27, 0], atol=8)

    lost = np.array([[np.nan, np.nan]])
    points = {i: np.concatenate([c, lost, c + 10]) for i, c in centers.items()}
    last = track(video, points, kind="points")[9]
    moved = last.labels[1] - points[1]
    np.testing.assert_allclose(moved[[0, 2]], [[36, 0], [36, 0]], atol=8)  # a cell
    assert np.isnan(moved[1]).all()
    assert last.confidence[1].shape == (3,)


@pytest.mark.parametrize("detail", ["coarse", "standard"])
def test_large_kernels_label_the_same(detail, monkeypatch):
    video, masks = scene()
    options = {"model": "fast", "config": replace(SMALL, detail=detail)}
    usual = track(video, masks[0], **options)
    for module in (affinity, propagator):
        monkeypatch.setattr(module, "wants_large_kernels", lambda device: True)
    large = track(video, masks[0], **options)
    for frame in usual:
        assert (usual[frame].labels != large[frame].labels).mean() < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("detail", ["coarse", "standard", "fine"])
def test_a_gpu_labels_the_same(detail):
    video, masks = scene()
    options = {"model": "fast", "config": replace(SMALL, detail=detail)}
    on_cpu, on_gpu = (track(video, masks[0], device=device, **options) for device in ("cpu", "cuda"))
    for frame in on_cpu:
        assert (on_cpu[frame].labels != on_gpu[frame].labels).mean() < 0.01


def test_an_object_that_leaves_is_gone():
    video, masks = scene(20)
    video[8:] = texture(*SIZE, seed=0, hue=60)
    tracked = track(video, masks[0])
    assert (tracked[19].labels > 0).mean() < 0.25 * (masks[0] > 0).mean()


def test_baselines_have_the_same_interface():
    video, masks = scene(5)
    identity, flow = (list(Tracker(video, masks[0], model=model)) for model in ("identity", "flow"))
    for tracked in (identity, flow):
        assert [frame.frame for frame in tracked] == list(range(5))
    assert all(np.array_equal(frame.labels, masks[0]) for frame in identity)
    still, followed = (jaccard(tracked[4].labels == 1, masks[4] == 1) for tracked in (identity, flow))
    assert followed > still + 0.2  # how far beyond differs between versions of OpenCV


def test_raft_needs_its_weights(monkeypatch, tmp_path):
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    video, masks = scene(3)
    with pytest.raises(ColorTrackError, match=f"save https://.* as {tmp_path}"):
        Tracker(video, masks[0], model="raft")

    weights = raft_large().state_dict()
    for name in ("weight", "bias"):  # the last layer: all flow is 0
        weights[f"update_block.flow_head.conv2.{name}"].zero_()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(weights, folder / Raft_Large_Weights.DEFAULT.url.rpartition("/")[2])
    config = TrackerConfig(input_size=(100, 132))  # less than RAFT needs, and no multiple of 8
    raft, still = (list(Tracker(video, masks[0], model=m, config=config)) for m in ("raft", "identity"))
    assert [frame.frame for frame in raft] == [0, 1, 2]
    assert jaccard(raft[2].labels > 0, still[2].labels > 0) > 0.95  # but for the smaller size


def test_a_live_video_gives_the_same():
    video, masks = scene(5)
    live = StreamTracker(video[0], masks[0], model="lab", config=SMALL)
    for t, frame in list(track(video, masks[0]).items())[1:]:
        stepped = live.step(video[t])
        assert stepped.frame == t
        assert np.array_equal(stepped.labels, frame.labels)
    with pytest.raises(ColorTrackError, match="frame 5 has shape"):
        live.step(video[0, :64])


def test_the_papers_protocol():
    video, masks = scene(4)
    tracked = track(video, masks[0], config=TrackerConfig.paper(temperature=0.01))
    assert jaccard(tracked[3].labels > 0, masks[3] > 0) > 0.6


def test_features_are_computed_once_per_frame(prepared):
    video, masks = scene(12)
    track(video, [Seed(2, masks[2]), Seed(9, masks[9])])
    assert len(prepared) == 12


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        ([], {}, "no labeled frame"),
        (
            Seed(10, np.ones(SIZE, np.uint8)),
            {},
            "labeled frame 10 is outside the video, which has 10 frames",
        ),
        ([Seed(1, np.ones(SIZE, np.uint8))] * 2, {}, "labeled twice"),
        (np.ones(SIZE, np.uint8), {"kind": "lines"}, "choose one of masks"),
        (np.ones(SIZE, np.uint8), {"direction": "up"}, "choose one of forward"),
        (np.ones(SIZE, np.uint8), {"spans": [range(5, 11)]}, r"span is range\(5, 11\)"),
    ],
)
def test_bad_input_is_named(seeds, options, message):
    with pytest.raises(ColorTrackError, match=message):
        Tracker(scene()[0], seeds, model="lab", **options)


def test_settings_are_checked():
    with pytest.raises(ColorTrackError, match=r"TrackerConfig\.memory is 21"):
        TrackerConfig(memory=21)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_every_step_of_the_work_can_be_counted(direction):
    video, masks = scene()
    seeds = [Seed(t, masks[t]) for t in (2, 3, 6)]
    tracker = Tracker(video, seeds, model="identity", direction=direction)
    steps = list(tracker.steps())
    assert len(steps) == tracker.step_count
    assert [step.frame for step in steps if step is not None] == [frame.frame for frame in tracker]


def seeds_of(masks: np.ndarray, frames: dict[int, tuple[int, ...]]) -> list[Seed]:
    """Seeds with the objects of some frames."""
    return [Seed(t, np.where(np.isin(masks[t], ids), masks[t], 0)) for t, ids in frames.items()]


@pytest.fixture
def prepared(monkeypatch) -> list[int]:
    """Grows by one for each frame whose features are computed."""
    calls: list[int] = []
    prepare = ColorPropagator.prepare

    def counted(self, frame, grid):
        calls.append(1)
        return prepare(self, frame, grid)

    monkeypatch.setattr(ColorPropagator, "prepare", counted)
    return calls


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize(
    "frames",
    [
        {2: (1, 2), 6: (1, 2), 7: (1, 2), 12: (1, 2)},
        {2: (1, 2), 6: (1,), 9: (2,), 12: (1, 2)},
        {2: (1,), 6: (2,), 9: (1,)},
    ],
)
def test_a_part_is_as_in_the_whole(direction, frames):
    video, masks = scene(16)
    tracker = Tracker(video, seeds_of(masks, frames), model="lab", config=SMALL, direction=direction)
    whole = {frame.frame: frame for frame in tracker}
    assert set(whole) == {t for segment in tracker.segments for t in segment.frames}
    for segment in tracker.segments:
        part = tracker.only([segment])
        steps = list(part.steps())
        assert len(steps) == part.step_count
        tracked = [step for step in steps if step is not None]
        assert sorted(frame.frame for frame in tracked) == list(segment.frames)
        assert len(part) == len(tracked)
        for frame in tracked:
            assert np.array_equal(frame.labels, whole[frame.frame].labels)
            assert frame.confidence == pytest.approx(whole[frame.frame].confidence, abs=1e-5)
            assert (frame.drawn, frame.objects) == (whole[frame.frame].drawn, whole[frame.frame].objects)


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_what_another_seed_shows_changes_only_what_follows_from_it(direction):
    video, masks = scene(16)
    frames = {2: (1, 2), 6: (1,), 9: (1, 2), 12: (1, 2)}
    seeds = seeds_of(masks, frames)
    tracker = Tracker(video, seeds, model="lab", config=SMALL, direction=direction)
    whole = {frame.frame: frame.labels for frame in tracker}
    for i, seed in enumerate(seeds):
        moved = [*seeds[:i], Seed(seed.frame, np.roll(seed.labels, 9, 1)), *seeds[i + 1 :]]
        changed = {
            frame.frame
            for frame in Tracker(video, moved, model="lab", config=SMALL, direction=direction)
            if not np.array_equal(frame.labels, whole[frame.frame])
        }
        assert seed.frame in changed
        assert changed <= {t for s in tracker.segments if seed.frame in s.seeds for t in s.frames}


def test_a_part_needs_no_work_elsewhere(prepared):
    video, masks = scene(20)
    tracker = Tracker(video, seeds_of(masks, dict.fromkeys((2, 8, 14), (1, 2))), model="lab", config=SMALL)
    first, *_, between, _, rest = tracker.segments
    for segment, count in ((between, 5 + 2), (rest, 5 + 2), (first, 2 + 1)):
        prepared.clear()
        list(tracker.only([segment]))
        assert len(prepared) == count
    prepared.clear()
    assert list(tracker.only([])) == []
    assert not prepared


def test_an_object_is_tracked_into_a_frame_that_leaves_it_out(prepared):
    video, masks = scene(20)
    tracker = Tracker(video, seeds_of(masks, {2: (1, 2), 8: (1,), 14: (1, 2)}), model="lab", config=SMALL)
    list(tracker.only(tracker.segments[4:5]))  # 9 to 13
    assert len(prepared) == 5 + 3 + 5


def test_the_objects_of_a_frame():
    video, masks = scene(12)
    tracked = track(video, seeds_of(masks, {2: (1,), 6: (2,)}))
    assert {frame.objects for t, frame in tracked.items() if t < 6} == {frozenset({1})}
    assert {frame.objects for t, frame in tracked.items() if t >= 6} == {frozenset({1, 2})}


def test_the_confidence_of_a_frame():
    labels = np.array([[1, 2]])
    both = frozenset({1, 2})
    assert TrackedFrame(0, labels, {1: 0.9, 2: 0.6}, objects=both).lowest_confidence == 0.6
    assert TrackedFrame(0, labels, {1: 0.9}, objects=both).lowest_confidence == LOST
    assert TrackedFrame(0, labels, {}).lowest_confidence is None
    points = {1: np.array([[1.0, 2], [np.nan, np.nan]])}
    assert TrackedFrame(0, points, {1: np.array([0.8, 0.0])}, objects=frozenset({1})).lowest_confidence == (
        pytest.approx((0.8 + LOST) / 2)
    )


@pytest.mark.parametrize("model", ["lab", "fast"])
def test_confidence_falls_when_an_object_leaves(model):
    """A disc goes out of the picture to the right."""
    background, skin = texture(*SIZE, seed=0, hue=60), texture(*SIZE, seed=1, hue=0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    video, masks = [], []
    for t in range(12):
        inside = (x - 120 - 9 * t) ** 2 + (y - 60) ** 2 < 26**2
        video.append(np.where(inside[..., None], np.roll(skin, 9 * t, 1), background))
        masks.append(inside.astype(np.uint8))
    tracked = [frame.lowest_confidence for frame in Tracker(video, masks[0], model=model, config=SMALL)]
    assert all(0 <= confidence <= 1 for confidence in tracked)
    assert tracked[0] == 1
    assert np.mean(tracked[-2:]) < np.mean(tracked[1:4]) - 0.15


def other_shot(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One disc over a background of other colors."""
    video, masks = scene(frames)
    return video[..., ::-1].copy() // 2 + 100, np.where(masks == 1, 1, 0).astype(np.uint8)


def test_tracks_end_at_cuts():
    (first, first_masks), (second, second_masks) = scene(8), other_shot(8)
    video, masks = np.concatenate([first, second]), np.concatenate([first_masks, second_masks])
    tracker = Tracker(video, masks[0], model="lab", config=SMALL)
    assert tracker.cuts == [8]
    assert [frame.frame for frame in tracker] == list(range(8))

    tracked = track(video, [Seed(2, masks[2]), Seed(12, masks[12])])
    assert list(tracked) == list(range(16))
    for t, frame in tracked.items():
        assert frame.objects == ({1, 2} if t < 8 else {1})
        assert jaccard(frame.labels == 1, masks[t] == 1) > 0.8, t
    alone = track(first, Seed(2, masks[2]))
    assert all(np.array_equal(tracked[t].labels, alone[t].labels) for t in range(8))

    going_on = replace(SMALL, end_at_cuts=False)
    assert list(track(video, masks[0], config=going_on)) == list(range(16))


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_a_gone_object_ends_there_and_a_later_seed_starts_it_again(direction):
    video, masks = scene(16)
    one = np.where(masks == 1, 1, 0).astype(np.uint8)
    seeds = [Seed(0, masks[0]), Seed(6, one[6], gone=frozenset({2})), Seed(11, masks[11])]
    tracked = track(video, seeds, direction=direction)
    absent = range(6, 11) if direction != "backward" else range(1, 7)
    for t, frame in tracked.items():
        seen = {1} if t in absent else {1, 2}
        assert frame.objects == set(frame.confidence) == set(np.unique(frame.labels)) - {0} == seen, t
        for i in seen:
            assert jaccard(frame.labels == i, masks[t] == i) > 0.8, (t, i)


def test_where_every_object_is_gone_nothing_is_tracked(prepared):
    video, masks = scene(12)
    seeds = [Seed(2, masks[2]), Seed(6, np.zeros(SIZE, np.uint8), gone=frozenset({1, 2}))]
    tracked = track(video, seeds)
    assert list(tracked) == list(range(7))
    assert not tracked[6].labels.any()
    assert len(prepared) == 7


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize("span", [range(0, 3), range(4, 8), range(5, 12), range(8, 9), range(13, 16)])
def test_a_span_is_as_in_the_whole(direction, span):
    video, masks = scene(16)
    seeds = seeds_of(masks, {3: (1, 2), 8: (1,), 11: (1, 2)})
    whole = track(video, seeds, direction=direction)
    part = Tracker(video, seeds, model="lab", config=SMALL, direction=direction, spans=[span])
    steps = list(part.steps())
    assert len(steps) == part.step_count
    tracked = {frame.frame: frame for frame in steps if frame is not None}
    assert list(tracked) == [t for t in whole if t in span]
    for t, frame in tracked.items():
        assert np.array_equal(frame.labels, whole[t].labels)


def test_only_what_a_span_needs_is_tracked(prepared):
    video, masks = scene(20)
    track(video, Seed(5, masks[5]), spans=[range(5, 10)])
    assert len(prepared) == 5
    prepared.clear()
    track(video, [Seed(2, masks[2]), Seed(16, masks[16])], direction="forward", spans=[range(16, 18)])
    assert len(prepared) == 2 + 1  # with the labeled frame before, which stays in memory


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize(("kind", "done"), [("masks", 4), ("masks", 9), ("boxes", 9)])
def test_an_interrupted_run_goes_on(direction, kind, done, prepared):
    video, masks = scene(16)
    seeds = seeds_of(masks, {3: (1, 2), 8: (1,), 11: (1, 2)})
    if kind == "boxes":
        seeds = [Seed(seed.frame, boxes_of(seed.labels)) for seed in seeds]
    whole = track(video, seeds, direction=direction, kind=kind)
    written = list(whole.values())[:done]
    prepared.clear()
    options = {"kind": kind, "model": "lab", "config": SMALL, "direction": direction}
    resume = [Seed(frame.frame, frame.labels) for frame in written[-SMALL.memory :]]
    resumed = Tracker(video, seeds, **options, resume=resume)
    assert resumed.segments == Tracker(video, seeds, **options).segments
    steps = list(resumed.steps())
    assert len(steps) == resumed.step_count
    tracked = [frame for frame in steps if frame is not None]
    assert [frame.frame for frame in tracked] == list(whole)[done:]
    assert len(prepared) <= len(tracked) + len(seeds) + SMALL.memory + 5  # 5: completes the second seed
    for frame in tracked:
        for i in (1, 2):
            before, now = whole[frame.frame].labels, frame.labels
            if kind == "masks":
                assert jaccard(now == i, before == i) > 0.94, (frame.frame, i)
            else:
                np.testing.assert_allclose(now[i], before[i], atol=8)  # a cell


def boxes_of(mask: np.ndarray) -> dict[int, np.ndarray]:
    boxes = {}
    for i in set(np.unique(mask)) - {0}:
        y, x = np.nonzero(mask == i)
        boxes[int(i)] = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)
    return boxes


def test_a_written_labeled_frame_is_not_completed_again(prepared):
    video, masks = scene(20)
    seeds = seeds_of(masks, {0: (1, 2), 10: (1,)})
    whole = track(video, seeds, direction="forward")
    prepared.clear()
    resume = [Seed(t, whole[t].labels) for t in (10, 13, 14, 15)]
    tracked = track(video, seeds, direction="forward", resume=resume)
    assert list(tracked) == [16, 17, 18, 19]
    assert len(prepared) == 4 + 2 + 3
    for t, frame in tracked.items():
        assert jaccard(frame.labels == 2, whole[t].labels == 2) > 0.95


@pytest.mark.parametrize("kind", ["masks", "boxes", "points"])
def test_what_has_too_little_confidence_is_left_out(kind):
    video, masks = scene(12)
    video[6:] = video[:1, ::-1, ::-1] // 2
    seed = {"masks": masks[0], "boxes": boxes_of(masks[0]), "points": {1: np.array([[40.0, 40.0]])}}[kind]
    config = replace(SMALL, end_at_cuts=False)
    whole = track(video, seed, kind=kind, config=config)
    values = [np.max(frame.confidence[1]) for frame in whole.values() if 1 in frame.confidence]
    least = float(max(values[1:]) + min(values)) / 2
    for t, frame in track(video, seed, kind=kind, config=replace(config, min_confidence=least)).items():
        sure = 1 in whole[t].confidence and np.max(whole[t].confidence[1]) >= least
        seen = (frame.labels == 1).any() if kind == "masks" else 1 in frame.labels
        if kind == "points":
            seen = np.isfinite(frame.labels[1]).all()
        assert seen == sure or t == 0
        assert 1 in frame.objects


def test_a_frame_without_any_border_has_nothing_to_open():
    frames = np.full((4, 64, 96, 3), 120, np.uint8)
    everything = np.ones((64, 96), np.uint8)
    labels = [tracked.labels for tracked in Tracker(frames, everything, model="lab", config=SMALL)]
    assert all((label == 1).all() for label in labels)


def test_settings_at_their_defaults_can_be_replaced():
    config = TrackerConfig(radius=64, top_k=None)
    assert config.with_defaults({"radius": 32, "handicap": 10}) == TrackerConfig(
        radius=64, top_k=None, handicap=10
    )
    assert TrackerConfig(handicap=None).with_defaults({"handicap": 10}).handicap is None
