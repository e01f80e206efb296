from __future__ import annotations

import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.tracking.suggest import rank_first_frames, suggest_frames
from fiftyone_colortrack.video import open_frames


def test_a_sure_tracker_spreads_over_the_video():
    first, second, third = suggest_frames(np.ones(41), [0], 3)
    assert 20 <= first <= 32  # far from the label, with frames on either side
    assert sorted(np.sign([second - first, third - first])) == [-1, 1]


def test_doubt_attracts():
    confidence = np.full(60, 0.95)
    confidence[35:45] = 0.1
    (frame,) = suggest_frames(confidence, [0, 59])
    assert 30 <= frame < 50
    two = suggest_frames(confidence, [0, 59], 2)
    assert all(25 <= frame < 55 for frame in two)
    assert abs(two[1] - two[0]) > 2  # the same doubt is not counted twice


def test_the_frame_beside_a_hidden_one_is_the_better_start():
    confidence = np.full(41, 0.8)
    confidence[24:28] = 0.4  # around which labels would help most, had they something to show
    (frame,) = suggest_frames(confidence, [0])
    assert frame in range(20, 24) or frame in range(28, 32)


def test_one_doubtful_frame_is_worth_less_than_a_stretch():
    confidence = np.full(60, 0.9)
    confidence[20] = 0.2
    confidence[38:50] = 0.4
    (frame,) = suggest_frames(confidence, [0, 59])
    assert 30 <= frame < 58


def test_several_frames_are_chosen_together():
    alone, together = suggest_frames(np.full(48, 0.8), [0]), suggest_frames(np.full(48, 0.8), [0], 2)
    assert alone == [pytest.approx(32, abs=1)]  # two thirds, for nothing is behind the end
    assert sorted(together) == [pytest.approx(19, abs=1), pytest.approx(38, abs=1)]


def test_labeled_frames_are_not_suggested():
    assert suggest_frames(np.zeros(4), [1, 2], 10) in ([0, 3], [3, 0])
    assert suggest_frames(np.zeros(2), [0, 1]) == []
    assert len(suggest_frames(np.zeros(5), [])) == 1


def test_a_long_video():
    confidence = np.full(20_000, 0.9)
    confidence[15_000:16_000] = 0.2
    (frame,) = suggest_frames(confidence, [0, 19_999])
    assert 14_800 <= frame < 16_200


def test_what_is_no_confidence_is_refused():
    for confidence in (np.array([0.5, np.nan]), np.array([1.2]), np.zeros((2, 2))):
        with pytest.raises(ColorTrackError, match="confidence"):
            suggest_frames(confidence, [0])


def looks(order: str) -> np.ndarray:
    """A video whose frames show still scenes a, b, ..., each with a texture of its own."""
    scenes = {
        name: np.kron(np.random.default_rng(i).integers(0, 256, (10, 14, 3)), np.ones((8, 8, 1)))
        for i, name in enumerate(sorted(set(order)))
    }
    return np.stack([scenes[name] for name in order]).astype(np.uint8)


def test_the_first_frame_to_label_shows_most_of_the_video():
    (frame,) = rank_first_frames(open_frames(looks("aaabbbbbbbcc")), "lab")
    assert 3 <= frame < 10
    two = rank_first_frames(open_frames(looks("aaaaabbbbbbb")), "lab", count=2)
    assert two[0] >= 5 > two[1]
    assert rank_first_frames(open_frames(looks("a")), "lab", count=3) == [0]
