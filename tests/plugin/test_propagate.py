import contextlib
import re
import time

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from bson import ObjectId
from fiftyone.core.annotation.validate_label_schemas import ValidationErrors
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor, resolve_placement
from fiftyone.operators.registry import OperatorRegistry
from markdown_it import MarkdownIt
from PIL import Image

import fiftyone_colortrack as ct
from fiftyone_colortrack import TrackerConfig, propagate
from fiftyone_colortrack.api.stop import leave, running
from fiftyone_colortrack.plugin import estimates, reading
from fiftyone_colortrack.plugin.forms import unescape

PLUGIN = "@colortrack/fiftyone-colortrack"
PARAMS = {"seed_field": "frames.seed", "seeds": "first", "label_field": "tracks", "direction": "both"}
SCHEME = "set_color_scheme"
PARAMS |= {"model": "lab", "advanced": True, "memory": 2, "radius": 100, "top_k": 10, "input_size": 128}


def summary(messages):
    texts = [params["results"].get("summary") for name, params in messages if name == "show_output"]
    return unescape(texts[-1])


def test_the_first_click_works(form, videos):
    first = form("propagate_labels", videos, {})
    assert first.errors == {}
    assert first.default("seed_field") == "frames.seed"
    assert first.choices("seed_field") == ["frames.seed", "frames.gt"]
    assert first.default("label_field") == "tracks"
    estimate = first.text("estimate")
    assert estimate.startswith("1 video to track, 8 frames, about ")
    assert re.search(r" s (on two CPU cores|at this machine's speed), about ", estimate)
    assert estimate.endswith(" KB of labels in the database. Skipped: 1 without labels in frames.seed.")
    assert "memory" not in first.inputs
    assert "seeds" not in first.inputs  # one frame is labeled: there is nothing to choose
    assert first.choices("model")[-3:] == ["identity", "flow", "raft"]


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({"label_field": "seed"}, {"label_field": "write the tracks to another field"}),
        ({"label_field": "a b"}, {"label_field": "letters, digits, and underscores"}),
        ({"label_field": "gt"}, {"label_field": "frames.gt exists"}),
        ({"label_field": "gt", "replace": True}, {}),
        ({"label_field": "frames.fine"}, {}),
    ],
)
def test_wrong_choices_are_marked_with_the_reason(form, videos, params, errors):
    found = form("propagate_labels", videos, {"seed_field": "frames.seed", **params}).errors
    assert found.keys() == errors.keys()
    for name, reason in errors.items():
        assert reason in found[name]


def test_the_estimate_needs_no_metadata(form, videos):
    videos.set_values("metadata", [None, None])
    params = {**PARAMS, "span": "range", "first_frame": 2, "last_frame": 4}
    assert (
        form("propagate_labels", videos, {}).text("estimate").startswith("1 video to track, 8 frames, about ")
    )
    assert (
        form("propagate_labels", videos, params).text("estimate").startswith("1 video to track, 3 frames, ")
    )


def test_without_labels_the_form_says_what_to_do(form, dataset, squares_file):
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    assert "Annotate" in form("propagate_labels", dataset, {}).errors["no_labels"]


def test_images_are_refused(form, dataset):
    dataset.add_sample(fo.Sample(filepath="image.png"))
    assert "videos" in form("propagate_labels", dataset, {}).errors["no_videos"]


def test_images_that_form_videos(form, execute, dataset, squares, tmp_path):
    for number, picture in enumerate(squares[0], 1):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        sample = fo.Sample(filepath=str(path), scene="a", number=number)
        if number == 1:
            box = fo.Detection(label="square", bounding_box=[8 / 96, 8 / 64, 16 / 96, 16 / 64])
            sample["seed"] = fo.Detections(detections=[box])
        dataset.add_sample(sample)
    reading.forget()  # of earlier tests
    datasets = fo.list_datasets()
    assert "group_by" in form("propagate_labels", dataset, {}).errors["no_videos"]
    view = dataset.group_by("scene", order_by="number")
    shown = form("propagate_labels", dataset, {}, view=view._serialize())
    assert shown.errors == {}
    assert shown.choices("seed_field") == ["seed"]
    assert "1 video to track, 8 frames" in shown.text("estimate")
    kept = fo.list_datasets()
    assert form("propagate_labels", dataset, {"label_field": "t"}, view=view._serialize()).errors == {}
    assert fo.list_datasets() == kept  # the images are not copied at each keystroke
    last = dataset.match(fo.ViewField("number") == 8).first()
    last["late"] = fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 0.5, 0.5])])
    last.save()
    assert "late" in form("propagate_labels", dataset, {}, view=view._serialize()).choices("seed_field")
    messages = execute("propagate_labels", view=view, params={**PARAMS, "seed_field": "seed"})
    assert dataset.count("tracks.detections") == 8
    assert "written to tracks" in summary(messages)
    (fields,) = [params["fields"] for name, params in messages if name.endswith("set_active_fields")]
    assert fields == ["tracks"]
    assert {field["path"] for field in dataset.app_config.color_scheme.fields} == {"seed", "late", "tracks"}
    again = form("propagate_labels", dataset, {"label_field": "tracks"}, view=view._serialize())
    assert "finished" in again.errors
    reading.forget()
    assert fo.list_datasets() == datasets


def test_keyframes_are_offered_where_there_are_some(form, videos):
    sample = videos.first()
    sample.frames[3].gt.detections[0]["keyframe"] = True
    sample.save()
    assert "keyframes" in form("propagate_labels", videos, {"seed_field": "frames.gt"}).choices("seeds")


def test_labels_are_written_and_the_app_is_told(execute, videos):
    messages = execute("propagate_labels", videos, PARAMS)
    assert videos.count("frames.tracks.detections") == 16
    names = [name for name, _ in messages]
    assert names[0] == "set_progress"
    assert not [name for name in names if name.endswith("notify")]  # the dialog says it
    assert "1 video (8 frames) tracked" in summary(messages)
    *steps, _ = [params for name, params in messages if name == "show_output"]
    assert all(
        "stop" in step["outputs"]["type"]["properties"]["buttons"]["type"]["properties"] for step in steps
    )
    assert steps[-1]["results"]["progress"] <= 1


def test_what_was_chosen_is_remembered_and_continued(form, execute, videos):
    execute(
        "propagate_labels",
        videos,
        {**PARAMS, "label_field": "found", "direction": "forward", "advanced": True},
    )
    again = form("propagate_labels", videos, {})
    assert again.default("direction") == "forward"
    assert again.default("label_field") == "tracks"  # nothing is left to do in `found`
    assert "at this machine's speed" in again.text("estimate")
    finished = form("propagate_labels", videos, {"label_field": "found"})
    assert finished.choices("existing") == ["skip_existing", "overwrite"]
    assert "All these videos are finished" in finished.errors["finished"]
    assert form("propagate_labels", videos, {"label_field": "found", "existing": "overwrite"}).errors == {}
    unfinished = form("propagate_labels", videos, {"seed_field": "frames.gt"})
    assert unfinished.default("label_field") == "found"
    assert "1 finished by earlier runs" in unfinished.text("estimate")


def test_objects_differ_in_color_and_tracks_from_ground_truth(execute, videos):
    def colors(label_list):
        fields = videos.app_config.color_scheme.fields
        (field,) = [field for field in fields if field["path"] == f"frames.{label_list}"]
        assert field["colorByAttribute"] == "index"
        by_index = {color["value"]: color["color"] for color in field["valueColors"]}
        return {by_index[str(index)] for index in (1, 2)}

    (told,) = [
        params for name, params in execute("propagate_labels", videos, PARAMS) if name.endswith(SCHEME)
    ]
    videos.reload()
    assert told["fields"] == videos.app_config.color_scheme.fields
    assert len(colors("tracks") | colors("gt")) == 4
    by_hand = {"path": "frames.gt", "fieldColor": "#123456"}
    scheme = videos.app_config.color_scheme
    scheme.fields = [by_hand if field["path"] == "frames.gt" else field for field in scheme.fields]
    videos.save()
    execute("propagate_labels", videos, {**PARAMS, "label_field": "more"})
    videos.reload()
    assert by_hand in videos.app_config.color_scheme.fields
    assert colors("tracks") == colors("more")

    videos.app_config.color_scheme = fo.ColorScheme(color_by="field")
    videos.save()
    messages = execute("propagate_labels", videos, {**PARAMS, "label_field": "most"})
    assert not [name for name, _ in messages if name.endswith(SCHEME)]
    videos.reload()
    assert videos.app_config.color_scheme.color_by == "field"


def test_the_labels_take_as_many_bytes_as_was_said(videos):
    said = estimates.label_bytes(videos, "frames.gt", "first")
    before = videos.stats()["total_bytes"]
    propagate(videos, "frames.gt", "frames.tracks", model="identity")
    assert (videos.stats()["total_bytes"] - before) / videos.count("frames") == pytest.approx(said, rel=0.3)


def test_after_a_correction_the_form_goes_on_from_it(form, execute, videos):
    execute("propagate_labels", videos, PARAMS)
    assert form("propagate_labels", videos, {}).default("seed_field") == "frames.seed"
    sample = videos.first()
    for label in sample.frames[8].tracks.detections:
        label["keyframe"] = True
    sample.save()
    corrected = form("propagate_labels", videos, {})
    assert corrected.errors == {}
    proposed = [corrected.default(name) for name in ("seed_field", "seeds", "label_field", "existing")]
    assert proposed == ["frames.tracks", "keyframes", "tracks", "skip_existing"]
    assert "that depend on corrections" in corrected.text("corrected")
    assert corrected.text("estimate").startswith("1 video to track, 7 frames, about ")
    replaced = form("propagate_labels", videos, {**PARAMS, "label_field": "tracks", "existing": "overwrite"})
    assert "This loses 2 labels" in replaced.text("by_hand")
    finished = form("propagate_labels", videos, {**PARAMS, "label_field": "tracks"})
    assert "The tracks have 2 labels" in finished.errors["finished"]
    params = {"seed_field": "frames.tracks", "seeds": "keyframes", "label_field": "tracks"}
    with_another = form("propagate_labels", videos, {**params, "model": "identity"})
    assert "1 video will be tracked from scratch" in with_another.text("again")
    assert "corrected" not in with_another.inputs
    assert with_another.text("estimate").startswith("1 video to track, 8 frames, about ")
    text = summary(execute("propagate_labels", videos, {**PARAMS, **params, "model": "identity"}))
    assert "1 video (8 frames) tracked" in text
    assert "tracked from scratch" in text
    assert "model lab, now identity" in text
    again = form("propagate_labels", videos, {})
    assert (again.default("seed_field"), again.default("label_field")) == ("frames.seed", "tracks_2")


def test_a_run_in_python_is_continued_with_its_settings(form, videos):
    how = {"model": "lab", "direction": "forward", "config": TrackerConfig(memory=3)}
    propagate(videos, "frames.seed", "frames.tracks", **how, progress=False)
    sample = videos.first()
    sample.frames[5].tracks.detections[0].bounding_box[0] += 0.02
    sample.save()
    found = form("propagate_labels", videos, {})
    assert [found.default(name) for name in ("model", "direction", "memory")] == ["lab", "forward", 3]
    assert "again" not in found.inputs
    assert "that depend on corrections" in found.text("corrected")


def test_the_app_can_annotate_the_tracks_of_its_runs(execute, videos):
    execute("propagate_labels", videos, PARAMS)
    assert videos.active_label_schemas == ["frames.tracks"]
    assert videos.label_schemas["frames.tracks"]["classes"] == ["square"]
    with contextlib.suppress(ValidationErrors):  # FiftyOne 1.22 renames it all the same
        videos.rename_frame_field("tracks", "mine")
    videos.reload()
    propagate(videos, "frames.seed", "frames.mine", model="lab", skip_existing=True, progress=False)
    assert videos.active_label_schemas == ["frames.mine"]
    ct.delete_tracks(videos, "frames.mine")
    assert not videos.label_schemas


def test_what_to_do_next_is_below_the_summary(execute, videos, tmp_path):
    (tmp_path / "video1.mp4").unlink()
    messages = execute("propagate_labels", videos, {**PARAMS, "seed_field": "frames.gt"})
    done = [params for name, params in messages if name == "show_output"][-1]["outputs"]
    buttons = [p["view"] for p in done["type"]["properties"].values() if p["view"]["name"] == "Button"]
    assert {button["label"]: button["operator"] for button in buttons} == {
        "Show these videos, least confident first": "set_view",
        "Evaluate tracks": f"{PLUGIN}/evaluate_tracks",
        "Show failed videos": "set_view",
    }
    shown = [fo.DatasetView._build(videos, b["params"]["view"]) for b in buttons if "view" in b["params"]]
    assert [view.values("id") for view in shown] == [[videos.first().id], [videos.last().id]]


def test_a_failed_video_is_reported(execute, videos, tmp_path):
    (tmp_path / "video0.mp4").unlink()
    messages = execute("propagate_labels", videos, {**PARAMS, "seed_field": "frames.gt"})
    text = summary(messages)
    assert "1 failed" in text
    assert "video0.mp4 is not a file" in text


def test_a_run_that_did_nothing_is_not_green(execute, videos, tmp_path):
    for i in range(2):
        (tmp_path / f"video{i}.mp4").unlink()
    messages = execute("propagate_labels", videos, PARAMS)
    done = [params for name, params in messages if name == "show_output"][-1]
    assert done["outputs"]["type"]["properties"]["outcome"]["view"]["severity"] == "warning"
    assert done["results"]["title"] == "Nothing was tracked"


@pytest.mark.parametrize("how", ["page closed", "button"])
def test_a_run_goes_on_without_its_dialog(execute, videos, how):
    operator = OperatorRegistry().get_operator(f"{PLUGIN}/propagate_labels")
    request = {"dataset_name": videos.name, "params": {**PARAMS, "seed_field": "frames.gt"}}
    context = ExecutionContext(request_params=request, executor=Executor(), operator_uri=operator.uri)
    messages = operator.execute(context)
    next(messages)
    while not running(videos):
        next(messages)
    if how == "button":
        id = running(videos)[0].id
        leave(id)
        list(messages)
        execute("continue_in_background", videos, {"run": id})
        told = context.executor.to_json()["requests"]
        ends = [message for message in told if "2 videos (16 frames) tracked" in str(message["params"])]
        assert len(ends) == 1  # in a message, or in the dialog if it was faster
    messages.close()
    end = time.monotonic() + 60
    while running(videos) and time.monotonic() < end:
        time.sleep(0.1)
    videos.reload()
    assert None not in videos.values("tracks_run")


def test_objects_and_frames_are_chosen(form, execute, videos):
    params = {**PARAMS, "objects": "2", "span": "range", "first_frame": 2, "last_frame": 4}
    assert form("propagate_labels", videos, params).text("estimate").startswith("1 video to track, 3 frames")
    assert form("propagate_labels", videos, {**params, "last_frame": 1}).errors.keys() == {"last_frame"}
    wrong = form("propagate_labels", videos, {**params, "objects": "2, typo"}).errors
    assert wrong.keys() == {"objects"}
    assert "typo; frames.seed has square (index 1), square (index 2)" in wrong["objects"]
    execute("propagate_labels", videos, params)
    found = {n: f.tracks.detections for n, f in videos.first().frames.items() if f.tracks}
    assert {n: [one.index for one in labels] for n, labels in found.items()} == {2: [2], 3: [2], 4: [2]}


def test_missing_weights_are_marked(form, videos, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    errors = form("propagate_labels", videos, {**PARAMS, "model": "raft"}).errors
    assert str(tmp_path) in errors["model"]


HOSTILE = "</script><img src=x onerror=alert(1)> **b** `c` [d](javascript:alert(1)) | ~~e~~ #"


def rendered(markdown):
    """The texts of Markdown as a browser shows them, and the kinds of its elements."""
    parsed = MarkdownIt().enable(["table", "strikethrough"]).parse(markdown)
    tokens = [child for token in parsed for child in token.children or [token]]
    return "".join(one.content for one in tokens), {one.type for one in tokens}


def test_names_that_people_chose_are_no_markdown(form, execute, videos, squares_file):
    sample = videos.first()
    bad = squares_file.with_name(HOSTILE.replace("/", "") + ".mp4")
    bad.write_bytes(b"no video")
    sample.filepath = str(bad)
    for frame in sample.frames.values():
        frame["seed"] = fo.Detections(
            detections=[fo.Detection(label=HOSTILE, bounding_box=[x, 0.1, 0.3, 0.5]) for x in (0.1, 0.5)]
        )
    sample.save()
    second = videos.last()
    second.frames[1]["seed"], second.frames[3]["seed"] = sample.frames[1].seed, sample.frames[2].seed
    second.save()
    messages = execute("propagate_labels", videos, {**PARAMS, "seeds": "all"})
    (results,) = [params["results"] for _, params in messages if "summary" in params.get("results", {})]
    text, kinds = rendered(results["summary"])
    assert bad.name in text
    assert f"'{HOSTILE}' without an index" in text
    assert kinds <= {"text", "text_special", "softbreak", "paragraph_open", "paragraph_close"}


def test_the_track_of_the_selected_label_is_edited(form, execute, videos):
    execute("propagate_labels", videos, PARAMS)
    sample = videos.first()
    first, second = sample.frames[5].tracks.detections
    facts = {"sample_id": sample.id, "field": "frames.tracks", "frame_number": 5}
    selected = [{"label_id": second.id, **facts}]
    context = {"current_sample": sample.id, "selected_labels": selected}
    assert "none" in form("edit_track", videos, {}, current_sample=sample.id).errors
    assert "edit" in form("edit_track", videos, {"edit": "merge"}, **context).errors

    opened = form("edit_track", videos, {}, **context)
    assert (opened.default("edit"), opened.errors) == ("rename", {})
    with pytest.raises(ExecutionError):  # nothing happens by itself
        execute("edit_track", videos, {}, **context)
    assert opened.text("track_0") == "Track square 2"
    both = {**context, "selected_labels": [*selected, {"label_id": first.id, **facts}]}
    assert form("edit_track", videos, {}, **both).default("edit") == "merge"
    assert "edit" in form("edit_track", videos, {"edit": "end"}, **both).errors
    earlier = {"label_id": sample.frames[4].tracks.detections[1].id, **facts, "frame_number": 4}
    gone = {"label_id": str(ObjectId()), **facts, "frame_number": 3}
    same = {**context, "selected_labels": [gone, earlier, *selected]}  # what was clicked before, elsewhere
    assert form("edit_track", videos, {}, **same).default("edit") == "rename"
    assert "edit" in form("edit_track", videos, {"edit": "merge"}, **same).errors

    execute("edit_track", videos, {"edit": "end"}, **same)
    videos.reload()
    found = videos.first().frames
    assert [len(found[n].tracks.detections) for n in range(1, 9)] == [2] * 5 + [1] * 3


@pytest.mark.parametrize("ids", ["clip", "video"])
def test_a_track_is_edited_beside_an_open_clip(form, execute, videos, ids):
    execute("propagate_labels", videos, PARAMS)
    clips = videos.limit(1).to_clips([[[4, 6]]])
    clip, sample = clips.first(), videos.first()
    label = sample.frames[5].tracks.detections[1]
    id = clip.id if ids == "clip" else sample.id
    selected = [{"label_id": label.id, "sample_id": id, "field": "frames.tracks", "frame_number": 5}]
    context = {"view": clips, "current_sample": clip.id, "selected_labels": selected}
    execute("edit_track", videos, {"edit": "end"}, **context)
    execute("edit_track", videos, {"edit": "rename", "label": "circle"}, **context)
    videos.reload()
    assert videos.label_schemas["frames.tracks"]["classes"] == ["square", "circle"]
    again = {"seed_field": "frames.tracks", "label_field": "again", "objects": "circle"}
    assert form("propagate_labels", videos, again).errors == {}
    found = videos.first().frames
    assert [len(found[n].tracks.detections) for n in range(1, 9)] == [2] * 5 + [1] * 3


def test_invalid_input_is_not_executed(execute, videos):
    with pytest.raises(ExecutionError, match="label_field"):
        execute("propagate_labels", videos, {**PARAMS, "label_field": "seed"})
    assert "seed_run" not in videos.get_field_schema()


def test_the_open_video_alone_is_tracked(form, execute, videos):
    last = videos.last().id
    params = {**PARAMS, "seed_field": "frames.gt"}
    opened = form("propagate_labels_in_video", videos, params, current_sample=last)
    assert opened.text("estimate").startswith("1 video to track, 8 frames, about ")
    assert "view_target" not in opened.inputs
    execute("propagate_labels_in_video", videos, params, current_sample=last)
    assert [run is None for run in videos.values("tracks_run")] == [True, False]


def test_the_selected_labels_alone_are_tracked(form, execute, videos):
    sample = videos.first()
    label = sample.frames[1].seed.detections[1]
    selected = [{"label_id": label.id, "sample_id": sample.id, "field": "frames.seed", "frame_number": 1}]
    context = {"current_sample": sample.id, "selected_labels": selected}
    assert form("propagate_labels_in_video", videos, PARAMS, **context).default("only_selected") is True
    execute("propagate_labels_in_video", videos, PARAMS, **context)
    assert videos.distinct("frames.tracks.detections.index") == [2]


def test_delegated(videos):
    uri = f"{PLUGIN}/propagate_labels"
    foo.execute_operator(uri, {"dataset": videos, "params": PARAMS}, request_delegation=True)
    assert not videos.has_frame_field("tracks")
    service = DelegatedOperationService()
    (result,) = service.execute_queued_operations(operator=uri, dataset_name=videos.name)
    assert result.error is None
    assert "1 video (8 frames) tracked" in result.result["summary"]
    videos.reload()
    assert videos.count("frames.tracks.detections") == 16
    (operation,) = service.list_operations(operator=uri, dataset_name=videos.name)
    assert operation.status.label
    assert operation.label == "Propagate frames.seed to tracks"


def test_buttons(database, videos):
    registry = OperatorRegistry()
    places = {}
    for name in ("propagate_labels", "propagate_labels_in_video", "stop_tracking"):
        operator = registry.get_operator(f"{PLUGIN}/{name}")
        placement = resolve_placement(operator, {"dataset_name": videos.name, "params": {}})
        places[name] = placement and (placement.place.value, placement.view.label)
    assert places == {
        "propagate_labels": ("samples-grid-secondary-actions", "Propagate labels"),
        "propagate_labels_in_video": None,  # `app.js` has it
        "stop_tracking": None,
    }
