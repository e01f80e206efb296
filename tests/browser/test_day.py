"""An annotator's day: corrections, parts of videos, cuts, long and broken videos, background work, export."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from colortrack_benchmarks.scenes import render_scene
from fiftyone_colortrack.api.stop import dataset_store, running
from fiftyone_colortrack.datasets.video_dataset import Instances, video_sample
from fiftyone_colortrack.fields import find_corrections, set_up_annotation
from fiftyone_colortrack.plugin.operators.propagate import REMEMBERED
from fiftyone_colortrack.video import write_video
from tests.browser.steps import choose_folder, done, execute, open_operator, open_video, ready, wait_until

SIZE = (96, 128)
MODAL = "[data-cy=modal]"
CANVAS = f"{MODAL} [data-cy=looker] canvas"


@pytest.fixture
def add_video(dataset: fo.Dataset, tmp_path: Path) -> Callable[..., fo.Sample]:
    """Adds a rendered video whose first frame shows a labeled cat and a labeled dog; the form proposes `lab`."""
    dataset_store(dataset).set(REMEMBERED, {"model": "lab"})

    def add(name: str, *lengths: int) -> fo.Sample:
        shots = [render_scene(SIZE, n, 2, seed=seed) for seed, n in zip((2, 11), lengths, strict=False)]
        info = write_video(tmp_path / name, np.concatenate([shot.frames for shot in shots]), 24)
        sample = video_sample(tmp_path / name, info)
        drawn = Instances({1: "cat", 2: "dog"}).detections(shots[0].masks[0], info)
        sample.frames[1] = fo.Frame(labels=drawn)
        dataset.add_sample(sample)
        return sample

    return add


def show(page, open_dataset: Callable, dataset: fo.Dataset, name: str) -> None:
    """The App's server knows a dataset by its name, which is in the pictures: none is used twice."""
    dataset.name = name
    open_dataset(dataset)
    open_video(page)


def step(page, frames: int) -> None:
    for _ in range(frames):
        page.keyboard.press(".")
        page.wait_for_timeout(500)


def open_form(page) -> None:
    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("Labels to start from").wait_for()
    ready(page)


def shown_frame(page) -> int:
    """Where the open form would start to track the next frames; it is left as it was."""
    choice = page.get_by_role("combobox")
    choice.filter(has_text="All frames").click()
    page.get_by_role("option", name="The next frames").click()
    number = page.get_by_role("spinbutton").first.input_value()
    choice.filter(has_text="The next frames").click()
    page.get_by_role("option", name="All frames").click()
    page.get_by_role("spinbutton").first.wait_for(state="detached")
    return int(number)


def indexes(sample: fo.Sample) -> dict[int, list[int]]:
    """Of the tracks in each frame that has some."""
    sample.reload(hard=True)
    found = {
        n: [one.index for one in frame.tracks.detections]
        for n, frame in sample.frames.items()
        if frame.tracks
    }
    return {number: of_frame for number, of_frame in found.items() if of_frame}


def test_a_mask_that_was_painted_stays_when_labels_are_propagated_again(
    page, open_dataset, dataset, add_video, screenshot
):
    sample = add_video("cat.mp4", 12)
    ct.propagate(dataset, "frames.labels", "frames.tracks", model="lab", progress=False)
    set_up_annotation(dataset, "tracks")
    show(page, open_dataset, dataset, "painted")
    page.locator(MODAL).get_by_text("Annotate", exact=True).click()
    page.get_by_role("button", name="Dismiss").click()
    label = page.locator("[data-cy^=annotate-label-]").first
    label.wait_for()
    step(page, 6)  # or fewer: a key that comes too early is lost
    label.click()
    page.locator("[data-cy=brush]").click()
    page.get_by_text("Paint to create a mask").wait_for()
    box = page.locator("[data-cy=lighter-sample-renderer-canvas]").bounding_box()
    middle, right = ((box["x"] + share * box["width"], box["y"] + box["height"] / 2) for share in (0.3, 0.45))
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(*right, steps=10)
    page.mouse.up()
    wait_until(page, lambda: bool(find_corrections(dataset, "tracks")))
    screenshot("annotate")
    (numbers,) = [list(found.drawn) for found in find_corrections(dataset, "tracks").values()]
    sample.reload(hard=True)
    painted = sample.frames[numbers[0]].tracks.detections[0]

    open_form(page)
    assert shown_frame(page) == numbers[0]
    page.get_by_text("Only frames that depend on corrections are re-tracked").wait_for()
    ready(page)
    screenshot("correct-form")
    execute(page)
    page.get_by_text("Kept as before: 1 label that a person drew").first.wait_for()
    screenshot("correct-done")
    sample.reload(hard=True)
    now = sample.frames[numbers[0]].tracks.detections[0]
    assert (now.id, now.bounding_box) == (painted.id, painted.bounding_box)
    assert np.array_equal(now.mask, painted.mask)
    assert len(indexes(sample)) == 12


def test_one_object_is_tracked_in_a_range_of_frames(page, open_dataset, dataset, add_video, screenshot):
    sample = add_video("pets.mp4", 12)
    show(page, open_dataset, dataset, "pets")
    page.get_by_text("/ 0:00.50").wait_for()  # what is clicked before the video is there is lost
    x, y, width, height = sample.frames[1].labels.detections[0].bounding_box
    canvas = page.locator(CANVAS).first.bounding_box()
    scale = min(canvas["width"] / SIZE[1], canvas["height"] / SIZE[0])
    across, down = (side * scale for side in (SIZE[1], SIZE[0]))
    page.mouse.click(
        canvas["x"] + (canvas["width"] - across) / 2 + (x + width / 2) * across,
        canvas["y"] + (canvas["height"] - down) / 2 + (y + height / 2) * down,
    )
    open_form(page)
    page.get_by_text("Only the 1 selected label").wait_for()
    page.get_by_text("All frames", exact=True).click()
    page.get_by_text("A range of frames").click()
    page.get_by_text("To frame").wait_for()
    page.locator("input[type=number]").nth(1).fill("5")
    page.get_by_text("1 video to track, 5 frames").wait_for()
    ready(page)
    screenshot("range-form")
    execute(page)
    page.get_by_text("1 video (5 frames) tracked").first.wait_for()
    assert indexes(sample) == {number: [1] for number in range(1, 6)}


def test_tracks_end_where_the_shot_changes(page, open_dataset, dataset, add_video, screenshot):
    sample = add_video("two-shots.mp4", 10, 8)
    show(page, open_dataset, dataset, "two-shots")
    page.get_by_text("/ 0:00.75").wait_for()
    while not page.get_by_text("0:00.25 / 0:00.75").is_visible():
        step(page, 1)  # a key that comes too early is lost
    open_form(page)
    assert shown_frame(page) == 7
    ready(page)
    execute(page)
    page.get_by_text("two-shots.mp4: a new shot begins at frame 11").first.wait_for()
    page.locator(MODAL).get_by_text("frames.tracks").first.wait_for()  # the window is opened again
    page.get_by_text("0:00.25 / 0:00.75").wait_for()  # at the same frame
    page.wait_for_timeout(6000)  # and stays there
    assert page.get_by_text("0:00.25 / 0:00.75").is_visible()
    screenshot("cut")
    assert indexes(sample) == {number: [1, 2] for number in range(1, 11)}


def test_a_long_video_is_stopped_in_the_middle_and_continued(
    page, open_dataset, dataset, add_video, screenshot
):
    sample = add_video("long.mp4", 120)
    show(page, open_dataset, dataset, "long")
    open_form(page)
    execute(page)
    page.get_by_text("frames/s").wait_for()
    page.get_by_role("button", name="Stop").dispatch_event("click")  # it moves with the progress
    summary = page.get_by_text("Stopped: 1 video (").first
    summary.wait_for()
    screenshot("propagate-stopped")
    count = int(re.search(r"\((\d+) frames\)", summary.inner_text()).group(1))
    kept = indexes(sample)
    assert 0 < len(kept) == count < 120
    done(page)

    open_form(page)
    page.get_by_text(f"1 video to track, {120 - count} frames").wait_for()
    screenshot("propagate-continue")
    execute(page)
    page.get_by_text(f"1 video ({120 - count} frames) tracked").first.wait_for()
    assert list(indexes(sample)) == list(range(1, 121))


def test_a_video_that_cannot_be_read_is_named(page, open_dataset, dataset, add_video, tmp_path, screenshot):
    for name in ("good.mp4", "broken.mp4"):
        add_video(name, 6)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    dataset.name = "broken"
    open_dataset(dataset)
    page.locator("[data-cy=looker]").first.wait_for()
    open_form(page)
    execute(page)
    page.get_by_text("1 video (6 frames) tracked").first.wait_for()
    page.get_by_text("broken.mp4 failed").first.wait_for()
    screenshot("failed")
    page.get_by_role("button", name="Show failed videos").click()
    page.get_by_text("1 sample").wait_for()
    assert dataset.match_tags("tracks_failed").values("filepath") == [str(tmp_path / "broken.mp4")]


def test_work_goes_on_without_its_dialog_and_is_stopped_in_the_panel(page, open_dataset, dataset, add_video):
    add_video("closed.mp4", 2000)
    show(page, open_dataset, dataset, "closed")
    open_form(page)
    execute(page)
    page.get_by_text("frames/s").wait_for()
    page.keyboard.press("Escape")  # as good as the button
    wait_until(page, lambda: not page.get_by_role("dialog").count())
    page.wait_for_timeout(2000)  # in which there is progress to show
    assert not page.get_by_role("dialog").count()
    page.locator(f"{MODAL} [data-cy=panel-tab-colortrack_panel]").click()
    page.get_by_role("button", name="Stop", exact=True).dispatch_event("click")
    page.get_by_text("Stopped: 1 video (").wait_for()  # one message
    assert not page.get_by_role("dialog").count()


def test_work_goes_on_without_its_page(page, open_dataset, dataset, add_video, screenshot):
    sample = add_video("background.mp4", 2000)
    show(page, open_dataset, dataset, "background")
    open_form(page)
    execute(page)
    page.get_by_text("frames/s").wait_for()
    open_dataset(dataset)  # somebody leaves the page, and comes back
    open_video(page)
    page.locator(f"{MODAL} [data-cy=panel-tab-colortrack_panel]").click()
    page.get_by_text("Propagate labels to frames.tracks").wait_for()
    page.get_by_text("frames/s").wait_for()
    screenshot("background")
    page.get_by_role("button", name="Stop", exact=True).dispatch_event("click")
    page.get_by_text("Propagate labels to frames.tracks").wait_for(state="detached")
    assert not running(dataset)
    wait_until(page, lambda: 0 < len(indexes(sample)) < 2000)


def test_tracks_are_exported(page, open_dataset, dataset, add_video, tmp_path, screenshot):
    add_video("export.mp4", 6)
    ct.propagate(dataset, "frames.labels", "frames.tracks", model="lab", progress=False)
    dataset.name = "export"
    open_dataset(dataset)
    page.locator("[data-cy=looker]").first.wait_for()
    open_operator(page, "Export tracks")
    page.get_by_text("New folder", exact=True).wait_for()
    choose_folder(page, tmp_path)
    ready(page)
    screenshot("export-form")
    execute(page)
    page.get_by_text("Exported frames.tracks of 1 video").first.wait_for()
    rows = (tmp_path / "export-tracks" / "export" / "gt" / "gt.txt").read_text().splitlines()
    assert len(rows) == 12
