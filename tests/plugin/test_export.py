from __future__ import annotations

import fiftyone as fo
import pytest

from fiftyone_colortrack.api.propagation import propagate
from fiftyone_colortrack.exports import MOTChallengeDataset
from fiftyone_colortrack.settings import ALLOWED_ROOTS


@pytest.fixture
def tracked(videos):
    propagate(videos, "frames.gt", "frames.tracks", model="identity")
    return videos


def shown(messages):
    """The results that the dialog shows at the end, and its errors."""
    return [params for name, params in messages if name == "show_output"][-1]


def test_tracks_are_exported_to_a_new_folder(form, execute, tracked, tmp_path):
    params = {"folder": {"absolute_path": str(tmp_path)}, "name": "out"}
    first = form("export_tracks", tracked, params)
    assert first.errors == {}
    assert first.default("label_field") == "frames.tracks"
    assert first.choices("format") == ["mot", "youtube-vis", "davis"]
    messages = execute("export_tracks", tracked, {**params, "label_field": "frames.tracks", "format": "mot"})
    assert shown(messages)["results"]["folder"] == str(tmp_path / "out")
    again = fo.Dataset.from_dir(dataset_dir=str(tmp_path / "out"), dataset_type=MOTChallengeDataset)
    assert len(again) == 2
    again.delete()
    assert "out" in form("export_tracks", tracked, params).errors["name"]  # it exists now


def test_wrong_folders_and_names_are_marked(form, tracked, tmp_path, monkeypatch):
    assert "folder" in form("export_tracks", tracked, {}).errors
    inside = {"folder": str(tmp_path), "name": "a/b"}
    assert "'a/b'" in form("export_tracks", tracked, inside).errors["name"]
    monkeypatch.setenv(ALLOWED_ROOTS, str(tmp_path / "allowed"))
    assert ALLOWED_ROOTS in form("export_tracks", tracked, {"folder": str(tmp_path)}).errors["folder"]


def test_without_detections_there_is_nothing_to_export(form, dataset, squares_file):
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    assert list(form("export_tracks", dataset, {}).errors) == ["no_fields"]
