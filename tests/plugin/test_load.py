from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest

from fiftyone_colortrack.exports import export_tracks

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path):
    """A sample of a dataset, in a folder that videos can be written to."""

    def link(name):
        if not (SHARED / name).is_dir():
            pytest.skip(f"{SHARED / name} is not there")
        path = tmp_path / name
        path.mkdir()
        for child in (SHARED / name).iterdir():
            (path / child.name).symlink_to(child.resolve())
        return {"absolute_path": str(path)}

    return link


@pytest.fixture
def loaded(execute, tmp_path, monkeypatch):
    """Runs an operator that loads a dataset; returns the dataset that it opens, to be deleted later."""
    monkeypatch.setattr(fo.config, "default_dataset_dir", str(tmp_path))
    names = []

    def load(operator, params):
        messages = execute(operator, None, params)
        (name,) = [args["dataset"] for uri, args in messages if uri == "open_dataset"]
        names.append(name)
        return fo.load_dataset(name)

    yield load
    for name in names:
        fo.delete_dataset(name)


def test_rendered_scenes(form, loaded):
    first = form("load_scenes", None, {})
    assert first.default("name") == "colortrack-scenes"
    assert first.text("estimate").startswith("4 videos, about 800 KB of videos: ")
    dataset = loaded("load_scenes", {"count": 2, "difficulty": "easy", "name": "two-scenes"})
    assert (dataset.name, len(dataset), dataset.persistent) == ("two-scenes", 2, True)
    assert form("load_scenes", None, {"name": "two-scenes"}).errors.keys() == {"name"}


def test_exported_tracks(form, loaded, tmp_path):
    scenes = loaded("load_scenes", {"count": 2, "difficulty": "easy", "name": "two-scenes"})
    folder = {"absolute_path": str(export_tracks(scenes, "ground_truth", tmp_path / "out", progress=False))}
    first = form("import_tracks", None, {"folder": folder})
    assert first.default("name") == "out"
    assert first.text("estimate").startswith("2 videos")
    dataset = loaded("import_tracks", {"folder": folder, "name": "again"})
    assert dataset.count("frames.tracks.detections") == scenes.count("frames.ground_truth.detections")
    assert "folder" in form("import_tracks", None, {"folder": {"absolute_path": str(tmp_path)}}).errors


def test_a_folder_that_cannot_be_written_to_is_named(form, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(fo.config, "default_dataset_dir", str(tmp_path / "file" / "datasets"))
    text = form("load_scenes", None, {}).errors["unwritable"]
    assert str(tmp_path / "file") in text
    assert "FIFTYONE_DEFAULT_DATASET_DIR" in text


@pytest.mark.parametrize("path", ["~nobody-has-this-name", "..", "\ud800", "a" * 5000])
def test_paths_that_lead_nowhere(form, database, path):
    assert form("load_davis", None, {"folder": path}).errors.keys() == {"folder"}


@pytest.mark.parametrize("operator", ["load_davis", "load_jhmdb", "load_kinetics"])
def test_a_wrong_folder_is_marked_with_the_reason(form, operator, tmp_path):
    assert set(form(operator, None, {}).inputs) == {"folder"}
    errors = form(operator, None, {"folder": str(tmp_path)}).errors
    assert errors.keys() == {"folder"}
    assert str(tmp_path) in errors["folder"]


def test_davis(form, loaded, folder):
    root = folder("davis2016-dev")
    opened = form("load_davis", None, {"folder": root})
    assert opened.choices("split") == ["all", "train"]
    assert opened.default("name") == "davis-2016"
    assert opened.choices("on_error") == ["raise", "skip"]
    assert opened.text("estimate").startswith("12 videos, 753 frames, ")
    assert str(Path(root["absolute_path"]).resolve()) in opened.text("estimate")
    chosen = form("load_davis", None, {"folder": root, "sequences": ["soccerball"]}).text("estimate")
    assert "1 video, 48 frames, about 1.9 MB of videos: about " in chosen
    dataset = loaded("load_davis", {"folder": root, "split": "train", "sequences": ["soccerball"]})
    assert dataset.values("sequence") == ["soccerball"]
    assert dataset.count("frames.ground_truth.detections") > 40


def test_jhmdb(form, loaded, folder):
    root = folder("jhmdb-sample")
    opened = form("load_jhmdb", None, {"folder": root, "split": "split3-test"})
    assert opened.text("estimate").startswith("1 video, 40 frames, ")
    dataset = loaded("load_jhmdb", {"folder": root})
    assert dataset.count("frames.keypoints.keypoints") == 40


def test_kinetics(form, loaded, folder):
    root = folder("kinetics-sample")
    opened = form("load_kinetics", None, {"folder": root, "max_samples": 1})
    assert opened.text("estimate").startswith("1 video: ")
    assert len(loaded("load_kinetics", {"folder": root, "max_samples": 1})) == 1


def test_errors_are_shown_and_leave_no_dataset(execute, tmp_path, database):
    with pytest.raises(foo.executor.ExecutionError, match="folder"):
        execute("load_davis", None, {"folder": {"absolute_path": str(tmp_path)}})
    assert not fo.dataset_exists("davis-2016")


def test_sequences_with_missing_files_are_marked(form, execute, loaded, davis_squares):
    folder = {"absolute_path": str(davis_squares)}
    list_of_val = davis_squares / "ImageSets/2017/val.txt"
    list_of_val.write_text("squares\nmissing\n")
    marked = form("load_davis", None, {"folder": folder})
    assert marked.errors.keys() == {"on_error"}
    assert "missing" in marked.errors["on_error"]
    assert form("load_davis", None, {"folder": folder, "sequences": ["squares"]}).errors == {}
    skipping = form("load_davis", None, {"folder": folder, "on_error": "skip"})
    assert skipping.errors == {}
    assert "missing" in skipping.text("faults")
    assert skipping.text("estimate").startswith("1 video, 8 frames, ")
    with pytest.raises(foo.executor.ExecutionError, match="on_error"):
        execute("load_davis", None, {"folder": folder})
    dataset = loaded("load_davis", {"folder": folder, "on_error": "skip"})
    assert (dataset.values("sequence"), list(dataset.info["skipped"])) == (["squares"], ["missing"])
    list_of_val.write_text("missing\n")
    assert form("load_davis", None, {"folder": folder, "on_error": "skip"}).errors.keys() == {"on_error"}


def test_damage_that_shows_while_loading_turns_the_dialog_into_the_error(execute, davis_squares):
    (davis_squares / "Annotations/480p/squares/00003.png").write_bytes(b"damaged")
    folder = {"absolute_path": str(davis_squares)}
    messages = execute("load_davis", None, {"folder": folder, "name": "damaged"})
    shown = [params for uri, params in messages if uri == "show_output"][-1]
    assert "00003.png" in str(shown)
    assert not fo.dataset_exists("damaged")


def test_folders_that_the_server_does_not_allow(form, tmp_path, davis_squares, monkeypatch):
    monkeypatch.setenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", str(tmp_path / "data"))
    assert form("load_davis", None, {"folder": str(davis_squares)}).errors.keys() == {"folder"}
