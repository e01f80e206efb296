"""What people do in the App. Each test is a task from its first click to what is in the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from skimage.draw import polygon

import fiftyone_colortrack as ct
from colortrack_benchmarks.demo import cyclist
from colortrack_benchmarks.scenes import load_scenes
from fiftyone_colortrack.datasets.video_dataset import Instances, video_sample
from fiftyone_colortrack.fields.shapes import paint
from fiftyone_colortrack.video import VideoFile, write_video
from tests.browser.steps import (
    choose_folder,
    colors_on_screen,
    done,
    execute,
    open_operator,
    open_video,
    ready,
    wait_until,
)

DRAWN = {
    "van": [(0, 43), (65, 37), (190, 40), (232, 54), (265, 113), (297, 226), (300, 272), (0, 272)],
    "motorbike": [
        (570, 138),
        (615, 135),
        (628, 162),
        (639, 180),
        (639, 271),
        (530, 271),
        (545, 226),
        (534, 195),
    ],
}
"""Outlines in frame 46 of the demo's cyclist, in pixels (x, y)."""
JOINTS = {
    "face": (428, 42),
    "neck": (425, 58),
    "right shoulder": (398, 63),
    "right elbow": (386, 111),
    "right wrist": (356, 110),
    "left shoulder": (459, 64),
    "left elbow": (476, 110),
    "left wrist": (476, 140),
    "right hip": (415, 140),
    "right knee": (424, 185),
    "right ankle": (420, 258),
    "left hip": (450, 138),
    "left knee": (480, 168),
    "left ankle": (458, 228),
}
"""The cyclist's in the same frame."""
LIMBS = [[0, 1], [1, 2, 3, 4], [1, 5, 6, 7], [1, 8, 9, 10], [1, 11, 12, 13]]


@pytest.fixture
def street(dataset: fo.Dataset, tmp_path: Path) -> fo.Dataset:
    """One real video of ten frames, in the first of which somebody labeled three things.

    Each test names it for its picture, as no other does: the App's server knows a dataset by its name.
    """
    shot = cyclist(tmp_path)
    info = write_video(tmp_path / "street.mp4", VideoFile(shot.filepath).read(range(45, 55)), 25)
    ids = paint(shot.frames[46].ground_truth.detections, [1], (info.height, info.width))
    for index, outline in enumerate(DRAWN.values(), 2):
        x, y = np.array(outline).T
        ids[polygon(y, x, ids.shape)] = index
    sample = video_sample(tmp_path / "street.mp4", info)
    drawn = Instances(dict(enumerate(["cyclist", *DRAWN], 1))).detections(ids, info)
    sample.frames[1] = fo.Frame(labels=drawn)
    dataset.add_sample(sample)
    return dataset


@pytest.fixture
def scenes(database: None, tmp_path: Path) -> Iterator[fo.Dataset]:
    """Two rendered videos with ground truth, and tracks of both baselines."""
    dataset = load_scenes(tmp_path, "browser-scenes", 2, frames=24, overwrite=True)
    for baseline in ("identity", "flow"):
        ct.propagate(dataset, "frames.ground_truth", f"frames.{baseline}", model=baseline)
    yield dataset
    dataset.delete()


def test_label_one_frame_and_get_every_frame(page, open_dataset, street, screenshot):
    street.name = "street"
    open_dataset(street)
    open_video(page)
    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("1 video to track, 10 frames, about").wait_for()
    ready(page)
    screenshot("propagate-form")
    execute(page)
    page.get_by_text("frames/s").wait_for()
    screenshot("propagate-progress")
    page.get_by_text("1 video (10 frames) tracked").first.wait_for()
    page.locator("[data-cy=modal]").get_by_text(
        "frames.tracks"
    ).first.wait_for()  # the same window, with the tracks
    page.locator("[data-cy=modal]").get_by_text("video/mp4").wait_for()  # and with what is known of the video
    assert page.get_by_text("1 video (10 frames) tracked").count() == 1
    screenshot("propagate-done")

    street.reload()
    sample = street.first()
    assert sample.tracks_run is not None
    for frame in sample.frames.values():
        assert {(label.index, label.label) for label in frame.tracks.detections} == {
            (1, "cyclist"),
            (2, "van"),
            (3, "motorbike"),
        }

    done(page)
    page.get_by_label("Show tracks").click()
    page.locator("[data-track-id]").nth(2).wait_for()
    rows = page.locator("[data-track-id]").all()
    shown = {row.get_attribute("data-track-id"): row.inner_text() for row in rows}
    tracks = sample.frames[10].tracks.detections
    assert shown == {track.instance.id: f"{track.label} {track.index}" for track in tracks}

    for _ in range(7):
        page.keyboard.press(".")
    page.get_by_text("0:00.28").wait_for()
    dots = [
        row.locator("[class*=_dot_]").evaluate("e => getComputedStyle(e).backgroundColor") for row in rows
    ]
    colors = [tuple(map(int, re.findall(r"\d+", dot))) for dot in dots]
    assert len(set(colors)) == 3

    def drawn() -> bool:
        pixels = colors_on_screen(page, "[data-cy=modal] [data-cy=looker] canvas")
        return all(pixels.get(color, 0) > 1000 for color in colors)

    wait_until(page, drawn)
    page.set_viewport_size({"width": 1440, "height": 856})  # without the path of a temporary folder
    wait_until(page, drawn)
    screenshot("tracks")


def test_key_points_have_their_skeleton_on_every_frame(page, open_dataset, street, screenshot):
    street.name = "cyclist"
    sample = street.first()
    width, height = sample.metadata.frame_width, sample.metadata.frame_height
    points = [(x / width, y / height) for x, y in JOINTS.values()]
    clicked = fo.Keypoint(label="cyclist", points=points, index=1)
    sample.frames[1]["joints"] = fo.Keypoints(keypoints=[clicked])
    sample.save()
    street.skeletons = {"frames.joints": fo.KeypointSkeleton(labels=list(JOINTS), edges=LIMBS)}
    ct.propagate(street, "frames.joints", "frames.skeleton")
    # For joints and limbs; nothing else in the video has that color.
    street.app_config.color_scheme = fo.ColorScheme(color_pool=["#00ff00"])
    street.save()

    page.set_viewport_size({"width": 1440, "height": 856})  # without the path of a temporary folder
    open_dataset(street)
    open_video(page)

    def green() -> int:
        return colors_on_screen(page, "[data-cy=modal] [data-cy=looker] canvas").get((0, 255, 0), 0)

    wait_until(page, lambda: green() > 0)  # what is clicked before the video is there is lost
    for _ in range(9):
        page.keyboard.press(".")
    page.get_by_text("0:00.36").wait_for()
    wait_until(page, lambda: green() > 2000)  # joints without limbs have some 1,100
    screenshot("key-points")


def test_two_trackers_are_compared_in_the_evaluation_panel(page, open_dataset, scenes, screenshot):
    ct.evaluate_tracks(scenes, "frames.identity", "frames.ground_truth", "identity")
    open_dataset(scenes)
    page.locator("[data-cy=looker]").first.wait_for()
    open_operator(page, "Evaluate tracks")
    page.get_by_text("44 frames of 2 videos will be scored").wait_for()
    screenshot("evaluate-form")
    execute(page)
    page.get_by_text("flow_eval: J").first.wait_for()
    screenshot("evaluate-done")
    done(page)
    page.set_viewport_size({"width": 1440, "height": 1195})  # for the whole summary
    page.get_by_text("flow_eval", exact=True).last.click()
    page.get_by_text("Select a comparison").click()
    page.get_by_role("option", name="identity").click()
    table = page.get_by_role("table").first
    row = table.get_by_role("row").filter(has_text=re.compile(r"^J&F"))
    row.get_by_text("%").wait_for()  # of the difference
    ours, theirs = (float(text.split()[0]) for text in row.get_by_role("cell").all_inner_texts()[1:3])
    assert ours > theirs + 0.2
    screenshot("evaluation-panel", "[data-cy=panel-content-model_evaluation_panel_builtin]")


def test_the_form_for_training_says_what_it_takes(page, open_dataset, street, screenshot):
    street.name = "my-videos"
    open_dataset(street)
    page.locator("[data-cy=looker]").first.wait_for()
    open_operator(page, "Train tracker")
    page.get_by_text("Name of the model").wait_for()
    page.get_by_text("Decoded frames take about").wait_for()
    ready(page)
    screenshot("train-form")


def test_a_failure_stays_until_it_is_read(page, open_dataset, street, davis_squares, screenshot):
    """A list names a sequence that is missing: the form says so. What the form cannot see, the dialog says."""
    street.name = "failures"
    with (davis_squares / "ImageSets/2017/val.txt").open("a") as names:
        names.write("missing\n")
    (davis_squares / "Annotations/480p/squares/00003.png").write_bytes(b"no picture")
    open_dataset(street)
    page.locator("[data-cy=looker]").first.wait_for()
    open_operator(page, "Load DAVIS", search="davis")
    choose_folder(page, davis_squares)
    page.get_by_text("1 of 2 videos cannot be loaded").first.wait_for()
    page.get_by_role("button", name="Execute", disabled=True).wait_for()
    screenshot("load-missing")
    page.get_by_text("Skip", exact=True).click()
    ready(page)
    execute(page)
    failed = page.get_by_role("dialog").get_by_text("00003.png")
    failed.wait_for()
    page.wait_for_timeout(5000)  # longer than a toast
    assert failed.is_visible()
    assert not page.get_by_role("progressbar").is_visible()
    screenshot("load-failed")
    done(page)


def test_a_run_that_did_nothing_is_not_done_in_green(page, open_dataset, street, screenshot):
    street.name = "nothing"
    Path(street.first().filepath).unlink()
    open_dataset(street)
    page.locator("[data-cy=looker]").first.wait_for()
    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("1 video to track").wait_for()
    ready(page)
    execute(page)
    page.get_by_role("dialog").get_by_text("Nothing was tracked").wait_for()
    assert page.get_by_role("dialog").locator("[class*=colorWarning], [class*=standardWarning]").count()
    assert not page.get_by_role("dialog").locator("[class*=Success]").count()
    screenshot("nothing-tracked")
    done(page)
