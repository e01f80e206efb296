"""Tracks leave FiftyOne in the formats of other programs, and come back the same."""

from __future__ import annotations

import json

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack.datasets.davis import load_davis
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.exports import (
    DAVISDataset,
    MOTChallengeDataset,
    YouTubeVISDataset,
    export_tracks,
    import_tracks,
)
from fiftyone_colortrack.video import write_video

HEIGHT, WIDTH, LENGTH = 48, 64, 4


@pytest.fixture
def tracks(database, tmp_path):
    """Two videos of the same name, with two tracks each; one leaves in the third frame."""
    dataset = fo.Dataset()
    for folder in ("a", "b"):
        path = tmp_path / folder / "clip.mp4"
        path.parent.mkdir()
        write_video(path, [np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8) for i in range(LENGTH)], 10)
        sample = fo.Sample(filepath=str(path))
        for number in range(1, LENGTH + 1):
            mask = np.zeros((16, 24), bool)
            mask[2:, 3 + number :] = True
            box = [(8 + number) / WIDTH, 16 / HEIGHT, 24 / WIDTH, 16 / HEIGHT]
            found = [fo.Detection(label="dog", index=7, bounding_box=box, mask=mask)]
            if number < 3:
                box = [0.5, 0.0, 8 / WIDTH, 8 / HEIGHT]
                found.append(fo.Detection(label="cat", index=2, bounding_box=box, mask=np.ones((8, 8), bool)))
            sample.frames[number] = fo.Frame(tracks=fo.Detections(detections=found))
        dataset.add_sample(sample)
    yield dataset
    dataset.delete()


def _shown(dataset, field):
    """{(frame, track): (class, the pixels of its box, the pixels of its mask)} of the first video."""
    shown = {}
    for number, frame in dataset.sort_by("filepath").first().frames.items():
        for label in frame[field].detections if frame[field] else []:
            x, y, w, h = (round(v * s) for v, s in zip(label.bounding_box, (WIDTH, HEIGHT) * 2, strict=True))
            whole = np.zeros((HEIGHT, WIDTH), bool)
            if label.mask is not None:
                whole[y : y + h, x : x + w] = label.mask
            shown[number, label.index] = label.label, (x, y, w, h), whole
    return shown


@pytest.mark.parametrize("kind", [MOTChallengeDataset, YouTubeVISDataset, DAVISDataset])
def test_a_round_trip(tracks, tmp_path, kind):
    tracks.export(str(tmp_path / "out"), dataset_type=kind, label_field="frames.tracks")
    again = fo.Dataset.from_dir(dataset_dir=str(tmp_path / "out"), dataset_type=kind, label_field="labels")
    assert len(again) == 2
    (field,) = [
        name for name in again.get_frame_field_schema() if name not in tracks.get_frame_field_schema()
    ]
    before, after = _shown(tracks, "tracks"), _shown(again, field)
    assert before.keys() == after.keys()
    for key, (label, box, mask) in before.items():
        assert after[key][0] == label
        if kind is not DAVISDataset:  # whose boxes are those around the masks
            assert after[key][1] == box
        if kind is not MOTChallengeDataset:
            assert np.array_equal(after[key][2], mask)
    assert not list(tmp_path.glob(".*"))
    again.delete()


@pytest.mark.parametrize("kind", ["mot", "youtube-vis", "davis"])
def test_an_export_becomes_a_dataset(tracks, tmp_path, kind):
    folder = export_tracks(tracks, "tracks", tmp_path / "out", format=kind)
    again = import_tracks(folder, "again", label_field="frames.corrected", progress=False)
    assert _shown(tracks, "tracks").keys() == _shown(again, "corrected").keys()
    labels = again.first().frames[1].corrected.detections + again.first().frames[2].corrected.detections
    assert len({label.instance.id for label in labels}) == len({label.index for label in labels}) == 2
    assert again.first().metadata.total_frame_count == LENGTH
    again.delete()


def test_what_is_no_export_is_named(tracks, tmp_path):
    with pytest.raises(ColorTrackError, match=str(tmp_path)):
        import_tracks(tmp_path)
    folder = export_tracks(tracks, "tracks", tmp_path / "out", format="mot")
    with pytest.raises(ColorTrackError, match="filepath"):
        import_tracks(folder, "again", label_field="filepath")
    (folder / "clip" / "gt" / "gt.txt").write_text("1,7,not a number\n")
    with pytest.raises(ColorTrackError, match="clip"):
        import_tracks(folder, "again", progress=False)
    assert not fo.dataset_exists("again")
    partly = import_tracks(folder, "again", on_error="skip", progress=False)
    assert len(partly) == 1
    assert "clip.mp4" in partly.info["skipped"]
    partly.delete()


def test_a_davis_export_is_a_davis_folder(tracks, tmp_path):
    dataset = load_davis(export_tracks(tracks, "tracks", tmp_path / "out", format="davis"))
    labels = dataset.first().frames[1].ground_truth.detections
    assert sorted(label.index for label in labels) == [2, 7]
    dataset.delete()


def test_youtube_vis_has_a_row_for_each_track(tracks, tmp_path):
    export_tracks(tracks, "frames.tracks", tmp_path / "out", format="youtube-vis")
    table = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [video["length"] for video in table["videos"]] == [LENGTH, LENGTH]
    assert len(table["annotations"]) == 4
    cat = next(row for row in table["annotations"] if row["track"] == 2)
    assert [mask is None for mask in cat["segmentations"]] == [False, False, True, True]
    assert cat["areas"][:2] == [64, 64]
    assert sum(cat["segmentations"][0]["counts"]) == HEIGHT * WIDTH


def test_tracks_of_two_classes_with_one_index_stay_apart(tracks, tmp_path):
    """FiftyOne counts indices per class, the formats in the whole video."""
    counts = tracks.values("frames.tracks.detections.index")
    tracks.set_values("frames.tracks.detections.index", [[[1] * len(f) for f in video] for video in counts])
    export_tracks(tracks, "tracks", tmp_path / "out", format="mot")
    rows = (tmp_path / "out" / "clip" / "gt" / "gt.txt").read_text().split()
    assert [row.split(",")[:2] for row in rows[:2]] == [["1", "1"], ["1", "2"]]


def test_cvat_takes_the_tracks(tracks, tmp_path):
    tracks.export(str(tmp_path / "out"), dataset_type=fo.types.CVATVideoDataset, label_field="frames.tracks")
    assert len(list((tmp_path / "out" / "labels").glob("*.xml"))) == 2


def test_nothing_is_left_of_an_export_that_fails(tracks, tmp_path):
    with pytest.raises(ColorTrackError, match="ground_truth"):
        export_tracks(tracks, "ground_truth", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ColorTrackError, match="full"):
        export_tracks(tracks, "tracks", tmp_path / "full")
    (tmp_path / "b" / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ColorTrackError):
        export_tracks(tracks, "tracks", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "full"]
