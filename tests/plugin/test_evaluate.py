import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone import ViewField as F
from fiftyone.operators.delegated import DelegatedOperationService
from PIL import Image

import fiftyone_colortrack as ct
from fiftyone_colortrack import fields
from fiftyone_colortrack.fields import create_tracks_field
from fiftyone_colortrack.plugin import forms

PLUGIN = "@colortrack/fiftyone-colortrack"
PANEL = "@voxel51/panels/model_evaluation_panel_builtin"
PARAMS = {"pred_field": "frames.tracks", "gt_field": "frames.gt", "eval_key": "eval"}


@pytest.fixture
def tracked(videos):
    ct.propagate(videos, "frames.gt", "frames.tracks", model="identity")
    return videos


def test_the_first_click_works(form, tracked):
    first = form("evaluate_tracks", tracked, {})
    assert first.errors == {}
    assert (first.default("pred_field"), first.default("gt_field")) == ("frames.tracks", "frames.gt")
    assert first.default("eval_key") == "tracks_eval"
    assert first.text("estimate").startswith("12 frames of 2 videos will be scored: ")
    assert first.text("estimate").endswith(", and about 5 KB in the database.")


def test_the_ground_truth_that_is_proposed_can_be_compared(form, tracked):
    tracked.add_frame_field("joints", fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    tracked.clone_frame_field("gt", "ground_truth")
    tracked.clone_frame_field("gt", "other")
    assert form("evaluate_tracks", tracked, {}).default("gt_field") == "frames.ground_truth"
    assert form("evaluate_tracks", tracked, {"pred_field": "frames.ground_truth"}).errors == {}


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({"gt_field": "frames.tracks"}, {"gt_field": "the same field"}),
        ({"gt_field": "frames.seed"}, {"gt_field": "Label other frames"}),
        ({"gt_field": "frames.joints"}, {"gt_field": "different types"}),
        ({"eval_key": "my eval"}, {"eval_key": "letters, digits, and underscores"}),
        ({"eval_key": "taken"}, {"eval_key": "'taken' exists"}),
        ({"eval_key": "taken", "overwrite": True}, {}),
    ],
)
def test_wrong_choices_are_marked_with_the_reason(form, tracked, params, errors):
    sample = tracked.first()
    sample.frames[2]["joints"] = fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.5, 0.5)])])
    sample.save()
    ct.evaluate_tracks(tracked, "tracks", "gt", "taken")
    found = form("evaluate_tracks", tracked, {**PARAMS, **params}).errors
    assert found.keys() == errors.keys()
    for name, reason in errors.items():
        assert reason in found[name]


def test_the_ground_truth_is_remembered(form, execute, tracked):
    tracked.clone_frame_field("gt", "other")
    assert form("evaluate_tracks", tracked, {}).default("gt_field") == "frames.other"
    execute("evaluate_tracks", tracked, PARAMS)
    assert form("evaluate_tracks", tracked, {}).default("gt_field") == "frames.gt"
    assert "at this machine's speed" in form("evaluate_tracks", tracked, {}).text("estimate")


def test_fields_without_labels_are_not_offered(form, tracked):
    create_tracks_field(tracked, "stopped", "seed", None)
    first = form("evaluate_tracks", tracked, {})
    assert first.default("pred_field") == "frames.tracks"
    assert "frames.stopped" not in first.choices("pred_field")
    with pytest.raises(ct.ColorTrackError, match=r"frames\.stopped has no labels in these videos"):
        ct.evaluate_tracks(tracked, "stopped", "gt", "eval")


def test_the_name_that_is_proposed_is_free(form, tracked):
    ct.evaluate_tracks(tracked, "tracks", "gt", "tracks_eval")
    again = form("evaluate_tracks", tracked, {})
    assert (again.default("eval_key"), again.errors) == ("tracks_eval_2", {})


def test_the_form_reads_the_labels_once(form, tracked, monkeypatch):
    calls = []
    read = forms.labeled_frames
    for module in (fields, forms):
        monkeypatch.setattr(module, "labeled_frames", lambda *args: calls.append(args) or read(*args))
    form("evaluate_tracks", tracked, PARAMS)
    assert calls
    calls.clear()
    form("evaluate_tracks", tracked, {**PARAMS, "eval_key": "eval_2"})
    assert calls == []


def test_images_are_refused(form, dataset):
    dataset.add_sample(fo.Sample(filepath="image.png"))
    assert "choose a dataset or view of videos" in str(form("evaluate_tracks", dataset, {}).errors)


def test_one_field_alone_cannot_be_compared(form, dataset, squares_file):
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    assert "two frame fields" in form("evaluate_tracks", dataset, {}).errors["no_fields"]


def test_scores_are_shown_in_the_panel(execute, tracked):
    messages = execute("evaluate_tracks", tracked, PARAMS)
    opened = [params for name, params in messages if name == "open_panel"]
    assert opened[0]["name"] == "model_evaluation_panel_builtin"
    note = [params["results"] for name, params in messages if name == "show_output"][-1]["summary"]
    assert note.startswith("eval: J\\&F 0.")

    view = {"key": "eval", "id": str(tracked._doc.evaluations["eval"].id)}
    params = {"panel_id": "p", "__method__": "load_evaluation", "panel_state": {"view": view}}
    result = foo.execute_operator(
        PANEL, {"dataset": tracked, "params": params | {"state": {}, "event_args": {}}}
    )
    requests = result.executor.to_json()["requests"]
    patches = [str(r["params"]["data"]) for r in requests if r["operator_uri"] == "patch_panel_data"]
    (shown,) = [patch for patch in patches if "custom_metrics" in patch]
    buttons = [params for name, params in messages if name == "show_output"][-1]["outputs"]["type"]
    labels = [prop["view"]["label"] for name, prop in buttons["properties"].items() if "link" in name]
    assert labels == ["Show the worst videos first", "See where tracks fail"]
    for label in ("J&F", "J", "F"):
        assert f"'label': '{label}'" in shown
    assert shown.count("'lower_is_better': False") == 3


def test_the_worst_videos_are_among_those_that_have_a_score(execute, tracked):
    last = tracked.last()
    for frame in last.frames.values():
        frame["gt"] = None
    last.save()
    messages = execute("evaluate_tracks", tracked, PARAMS)
    done = [params for name, params in messages if name == "show_output"][-1]
    assert "1 of 2 videos scored" in done["results"]["summary"]
    buttons = [params for name, params in messages if name == "show_output"][-1]["outputs"]["type"]
    stages = buttons["properties"]["link_0"]["view"]["params"]["view"]
    assert fo.DatasetView._build(tracked, stages).values("id") == [tracked.first().id]


@pytest.mark.parametrize("zero", [False, True])
def test_the_form_promises_the_frames_that_are_scored(form, execute, tracked, zero):
    """Neither the first nor the last frame of a video counts, nor one that a person labeled, nor an untracked video."""
    first, last = tracked.first(), tracked.last()
    first.frames[4].tracks.detections[0]["keyframe"] = True
    for frame in last.frames.values():
        frame["tracks"] = None
    first.save()
    last.save()
    promised = form("evaluate_tracks", tracked, {"zero": zero}).text("estimate")
    execute("evaluate_tracks", tracked, {**PARAMS, "zero": zero})
    assert promised.startswith(f"{tracked.count('frames.eval_JF')} frames of ")


def test_delegated(tracked):
    uri = f"{PLUGIN}/evaluate_tracks"
    foo.execute_operator(uri, {"dataset": tracked, "params": PARAMS}, request_delegation=True)
    service = DelegatedOperationService()
    (result,) = service.execute_queued_operations(operator=uri, dataset_name=tracked.name)
    assert result.error is None
    assert set(result.result["scores"]) == {"J&F", "J", "F"}
    tracked.reload()
    assert tracked.list_evaluations() == ["eval"]


def test_images_that_form_videos_are_scored(form, execute, dataset, squares, tmp_path):
    def box(shift):
        return fo.Detections(
            detections=[fo.Detection(label="square", index=1, bounding_box=[shift, 0.25, 0.25, 0.25])]
        )

    for scene in "ab":
        for number, picture in enumerate(squares[0], 1):
            path = tmp_path / f"{scene}{number}.png"
            Image.fromarray(picture).save(path)
            sample = fo.Sample(filepath=str(path), scene=scene, number=number, truth=box(0.25))
            if scene == "a":
                sample["guess"] = box(0.25 if number < 5 else 0.5)
            dataset.add_sample(sample)
    view = dataset.group_by("scene", order_by="number")
    params = {"pred_field": "guess", "gt_field": "truth", "eval_key": "boxes"}
    shown = form("evaluate_tracks", dataset, params, view=view._serialize())
    assert shown.errors == {}
    assert shown.choices("gt_field") == ["guess", "truth"]
    assert "1 video" in shown.text("zero")
    messages = execute("evaluate_tracks", view=view, params=params)
    done = [params for name, params in messages if name == "show_output"][-1]
    assert "1 without tracks" in done["results"]["summary"]
    scores = dict(zip(*dataset.match(F("scene") == "a").values(["number", "boxes_J"]), strict=True))
    assert scores == {1: None, **dict.fromkeys((2, 3, 4), 1), **dict.fromkeys((5, 6, 7), 0), 8: None}
    shown = form("evaluate_tracks", dataset, params, view=view._serialize())
    assert "boxes" in shown.errors["eval_key"]
