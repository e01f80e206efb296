from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.api.suggestion import suggest
from fiftyone_colortrack.errors import ColorTrackError


def add_video(dataset: fo.Dataset, confidence: list[float | None], name: str = "tracks") -> fo.Sample:
    """A video whose first frame is a person's; None where the track has no label."""
    sample = fo.Sample(
        filepath=f"/nowhere/{len(dataset)}.mp4", metadata=fo.VideoMetadata(total_frame_count=len(confidence))
    )
    instance = fo.Instance()
    for number, value in enumerate(confidence, 1):
        box = fo.Detection(
            bounding_box=[0, 0, 1, 1], confidence=value, keyframe=number == 1, instance=instance, index=1
        )
        labels = [] if value is None else [box]
        sample.frames[number] = fo.Frame(**{name: fo.Detections(detections=labels)})
    dataset.add_sample(sample, dynamic=True)
    return sample


def test_the_doubtful_frames_of_each_video(dataset: fo.Dataset) -> None:
    falls = add_video(dataset, [1.0] + [0.9] * 10 + [0.1] * 5 + [0.9] * 10)
    lost = add_video(dataset, [1.0] + [0.95] * 10 + [None] * 10)
    empty = add_video(dataset, [None] * 5)
    found = suggest(dataset, "frames.tracks", 2)
    assert len(found[falls.id]) == 2
    assert 12 <= found[falls.id][0].frame_number <= 16
    assert found[falls.id][0].confidence == pytest.approx(0.1)
    assert 12 <= found[lost.id][0].frame_number <= 21
    assert found[empty.id] == []


def test_key_points_are_averaged(dataset: fo.Dataset) -> None:
    sample = fo.Sample(filepath="/nowhere/points.mp4", metadata=fo.VideoMetadata(total_frame_count=20))
    instance = fo.Instance()
    for number in range(1, 21):
        sure = 0.2 if 8 <= number <= 14 else 0.9
        keypoint = fo.Keypoint(
            points=[(0.1, 0.1), (np.nan, np.nan)],
            confidence=[sure, 0.0],
            keyframe=number in (1, 20),
            instance=instance,
        )
        sample.frames[number] = fo.Frame(tracks=fo.Keypoints(keypoints=[keypoint]))
    dataset.add_sample(sample, dynamic=True)
    ((suggestion,),) = suggest(dataset, "tracks").values()
    assert 8 <= suggestion.frame_number <= 14
    assert suggestion.confidence == pytest.approx(0.1)


def test_a_field_without_tracks_is_refused(dataset: fo.Dataset) -> None:
    add_video(dataset, [1.0, 0.5])
    with pytest.raises(ColorTrackError, match=r"frames\.other has no tracks with confidences"):
        suggest(dataset, "frames.other")
