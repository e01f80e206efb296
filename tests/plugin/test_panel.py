from __future__ import annotations

import time

import fiftyone as fo
import pytest

import fiftyone_colortrack as ct
from fiftyone_colortrack.api.stop import StopSignal, running
from fiftyone_colortrack.plugin.panel import NONE


@pytest.fixture
def panel(execute):
    """Sends an event to the panel; returns the properties that are shown then, and the other messages."""

    def send(dataset, event="on_load", state=None, current_sample=None, view=None, **params):
        panel_state = {"choices": state or {}}
        params = {"panel_id": "p", "__method__": event, "panel_state": panel_state, **params}
        messages = execute("colortrack_panel", dataset, params, current_sample=current_sample, view=view)
        (output,) = [params["output"] for name, params in messages if name == "show_panel_output"]
        others = [message for message in messages if message[0] != "show_panel_output"]
        return output["type"]["properties"], others

    return send


@pytest.fixture
def evaluated(videos):
    """Two videos with `still` (labels repeated in place), evaluated, and `truth`, which is all right."""
    videos.set_values("attributes", [["OCC", "MB"], ["OCC"]])
    ct.propagate(videos, "frames.gt", "frames.still", model="identity")
    ct.evaluate_tracks(videos, "frames.still", "frames.gt", "still")
    videos.clone_frame_field("gt", "truth")
    ct.evaluate_tracks(videos, "frames.truth", "frames.gt", "truth")
    return videos


def choices(shown: dict, name: str) -> list[str]:
    return [choice["value"] for choice in shown["choices"]["type"]["properties"][name]["view"]["choices"]]


def bars(shown: dict) -> dict[str, dict[str, float]]:
    """{evaluation: {name: score}}"""
    traces = shown["videos"]["view"]["data"]
    return {trace["name"]: dict(zip(trace["x"], trace["y"], strict=True)) for trace in traces}


def test_without_an_evaluation_it_says_what_to_do(panel, videos):
    shown, _ = panel(videos)
    assert "No evaluation yet" in shown["no_evaluation"]["default"]
    for event in ("propagate", "evaluate"):
        assert event in shown["start"]["type"]["properties"]
    _, messages = panel(videos, "evaluate")
    (prompt,) = [params for name, params in messages if name == "prompt_user_for_operation"]
    assert prompt["operator_uri"].endswith("/evaluate_tracks")


def test_the_latest_evaluation_is_shown_beside_the_one_before(panel, evaluated):
    shown, _ = panel(evaluated)
    assert choices(shown, "evaluation") == ["truth", "still"]
    assert choices(shown, "against") == ["still", NONE]
    assert choices(shown, "metric") == ["JF", "J", "F"]
    assert choices(shown, "group_by") == ["attributes", "filepath"]
    still = evaluated.values("still_JF")
    assert bars(shown) == {
        "truth": {"MB": 1, "OCC": 1},
        "still": {"MB": pytest.approx(still[0]), "OCC": pytest.approx(sum(still) / 2)},
    }
    assert {"time", "confidence"} <= set(shown)
    assert "run Colorize videos" in shown["missing_0"]["default"]


def test_what_is_chosen_is_shown(panel, evaluated):
    chosen = {"evaluation": "still", "against": NONE, "metric": "J", "group_by": "filepath"}
    shown, _ = panel(evaluated, "refresh", chosen)
    scores = dict(zip(["video0.mp4", "video1.mp4"], evaluated.values("still_J"), strict=True))
    assert bars(shown) == {"still": pytest.approx(scores)}
    evaluated.delete_evaluation("still")
    shown, _ = panel(evaluated, "refresh", chosen)  # what is gone is not chosen any more
    assert set(bars(shown)) == {"truth"}


def test_an_evaluation_is_loaded_once_until_it_is_replaced(panel, evaluated, monkeypatch):
    loaded = []
    load = fo.Dataset.load_evaluation_results

    def counted(dataset: fo.Dataset, key: str, **options):
        loaded.append(key)
        return load(dataset, key, **options)

    monkeypatch.setattr(fo.Dataset, "load_evaluation_results", counted)
    for metric in ("JF", "J"):
        panel(evaluated, "refresh", {"metric": metric})
    assert sorted(loaded) == ["still", "truth"]
    ct.evaluate_tracks(evaluated, "frames.truth", "frames.gt", "still", overwrite=True)
    shown, _ = panel(evaluated)
    assert shown["totals"]["default"] == r"J\&F of all videos: still 100.0%, truth 100.0%"
    assert sorted(loaded) == ["still", "still", "truth"]
    evaluated.delete_evaluation("truth")
    shown, _ = panel(evaluated)
    assert choices(shown, "evaluation") == ["still"]


def test_a_click_on_a_bar_shows_its_videos(panel, evaluated):
    _, messages = panel(evaluated, "show", path="videos", trace="still", idx=0)
    (view,) = [params["view"] for name, params in messages if name == "set_view"]
    assert fo.DatasetView._build(evaluated, view).values("id") == [evaluated.first().id]


def test_a_click_on_a_line_shows_clips_of_its_frames(panel, evaluated):
    _, messages = panel(evaluated, "show", path="time", trace="still", idx=0)
    (stages,) = [params["view"] for name, params in messages if name == "set_view"]
    view = fo.DatasetView._build(evaluated, stages)
    assert view.values("support") == [[2, 2], [2, 2]]


def test_key_points_have_a_table(panel, dataset, squares_file):
    sample = fo.Sample(filepath=str(squares_file))
    for number in range(1, 5):
        keypoint = fo.Keypoint(index=1, points=[(0.1, 0.1), (0.5, 0.5)])
        sample.frames[number] = fo.Frame(
            **{name: fo.Keypoints(keypoints=[keypoint.copy()]) for name in ("gt", "tracks")}
        )
    dataset.add_sample(sample)
    ct.evaluate_tracks(dataset, "tracks", "gt", "eval")
    shown, _ = panel(dataset)
    assert "| point 2 | 100.0% |" in shown["points_eval"]["default"]


def test_beside_a_video_it_shows_the_confidence_in_each_object(panel, evaluated):
    video = evaluated.first()
    video.frames[3]["still"].detections[0].confidence = 0.25
    video.frames[4]["still"].detections.pop(0)
    video.save()
    shown, _ = panel(evaluated, current_sample=video.id)
    assert "videos" not in shown
    first, second = shown["confidence"]["view"]["data"]
    assert (first["name"], second["name"]) == ("square 1", "square 2")
    assert first["x"] == list(range(1, 9))
    assert first["y"][2:4] == [0.25, None]


def test_beside_a_clip_it_shows_the_confidence_in_its_video(panel, evaluated):
    clips = evaluated.to_clips([[[2, 4]], []])
    of_clip, _ = panel(evaluated, current_sample=clips.first().id, view=clips)
    of_video, _ = panel(evaluated, current_sample=evaluated.first().id)
    assert of_clip["confidence"] == of_video["confidence"]


def test_a_click_beside_a_video_goes_to_the_frame(panel, evaluated):
    _, messages = panel(evaluated, "go_to", current_sample=evaluated.first().id, path="confidence", x=6)
    assert [params for name, params in messages if name.endswith("go_to_frame")] == [{"frame_numbers": [6]}]


def test_buttons_step_through_the_frames_where_confidence_dips(panel, evaluated):
    video = evaluated.first()
    for number, confidence in ((4, 0.1), (7, 0.4)):
        video.frames[number]["still"].detections[1].confidence = confidence
    video.save()

    def numbers(event):
        _, messages = panel(evaluated, event, current_sample=video.id)
        return [params["frame_numbers"] for name, params in messages if name.endswith("go_to_frame")]

    assert numbers("next_doubtful") == [[4, 7]]
    assert numbers("previous_doubtful") == [[7, 4]]


def test_where_the_tracker_is_sure_there_is_no_frame_to_go_to(panel, evaluated):
    _, messages = panel(evaluated, "next_doubtful", current_sample=evaluated.first().id)
    assert [name for name, _ in messages] == ["notify"]


def test_a_video_without_tracks_says_so(panel, videos):
    shown, _ = panel(videos, current_sample=videos.first().id)
    assert "no_tracks" in shown


def test_running_work_is_listed_with_a_button_that_stops_it(panel, videos):
    with StopSignal(videos, "Track *all*") as signal:
        signal.update(1, 4, "video_1")
        deadline = time.monotonic() + 10
        while not running(videos)[0].fraction and time.monotonic() < deadline:
            time.sleep(0.05)
        shown, _ = panel(videos)
        row = shown[f"run_{signal.id}"]["type"]["properties"]
        assert "25%" in row["progress"]["default"]
        assert r"Track \*all\*" in row["progress"]["default"]
        assert shown["timer"]["view"]["interval"] > 0
        panel(videos, "stop", run=row["stop"]["view"]["params"]["run"])
        while not signal() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert signal()
    shown, _ = panel(videos)
    assert "timer" not in shown
