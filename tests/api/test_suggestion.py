from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_colortrack.api.suggestion import suggest
from fiftyone_colortrack.errors import ColorTrackError


def add_video(dataset: fo.Dataset, confidence: list[float | None], length: int | None = None) -> fo.Sample:
    """A video whose first frame is a person's; None where nothing is tracked."""
    sample = fo.Sample(
        filepath=f"/nowhere/{len(dataset)}.mp4",
        metadata=fo.VideoMetadata(total_frame_count=length or len(confidence)),
    )
    for number, value in enumerate(confidence, 1):
        box = fo.Detection(bounding_box=[0, 0, 1, 1], keyframe=number == 1)
        sample.frames[number] = fo.Frame(
            tracks=fo.Detections(detections=[box]), tracks_confidence=value, other=fo.Detections()
        )
    dataset.add_sample(sample, dynamic=True)
    return sample


def test_the_doubtful_frames_of_each_video(dataset: fo.Dataset) -> None:
    falls = add_video(dataset, [1.0] + [0.9] * 10 + [0.1] * 5 + [0.9] * 10)
    partly = add_video(dataset, [1.0] + [0.95] * 9, length=20)
    found = suggest(dataset, "frames.tracks", count=2)
    assert len(found[falls.id]) == 2
    assert 8 <= found[falls.id][0].frame_number <= 20  # beside the frames that it doubts
    assert found[falls.id][0].confidence == pytest.approx(0.9)
    assert found[partly.id][0].frame_number == 10  # the last one that was tracked


def test_a_field_without_tracks_is_refused(dataset: fo.Dataset) -> None:
    add_video(dataset, [1.0, 0.5])
    with pytest.raises(ColorTrackError, match=r"frames\.other"):
        suggest(dataset, "frames.other")


def test_the_first_frame_of_a_video_without_tracks(dataset: fo.Dataset, squares_file: Path) -> None:
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    seen: list[tuple[int, int, str]] = []
    ((first, second),) = suggest(
        dataset.name, count=2, model="lab", progress=lambda *step: seen.append(step)
    ).values()
    assert first.frame_number != second.frame_number
    assert {first.frame_number, second.frame_number} <= {*range(1, 9)}
    assert first.confidence is None
    assert first.filepath == str(squares_file)
    assert seen == [(1, 1, "squares.mp4")]
