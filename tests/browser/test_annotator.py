"""An annotator's day in the App: one object, a range, a cut, Stop, a failure, a closed dialog, edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_colortrack as ct
from colortrack_benchmarks.scenes import load_scenes, render_scene, scene_sample
from fiftyone_colortrack.datasets.video_dataset import video_sample
from fiftyone_colortrack.video import write_video
from tests.browser.steps import execute, open_video, ready, wait_until

NUMBERS = count(1)
SIZE = (120, 160)
LONG = 400


@pytest.fixture
def make_scene(database: None, tmp_path: Path) -> Iterator[Callable[..., fo.Dataset]]:
    """Makes a dataset of one rendered video, of which the first frame is labeled in ``seed``."""
    made = []

    def make(frames: int) -> fo.Dataset:
        # The server keeps datasets that it has shown: none may have the name of a deleted one.
        dataset = load_scenes(tmp_path, f"day-{next(NUMBERS)}", 1, size=SIZE, frames=frames, objects=2)
        made.append(dataset)
        sample = dataset.first()
        sample.frames[1]["seed"] = sample.frames[1].ground_truth.copy()
        sample.save()
        dataset.delete_frame_fields(["boxes", "points", "ground_truth"])
        return dataset

    yield make
    for dataset in made:
        dataset.delete()


def click_label(page, label: fo.Detection) -> None:
    """Select a label of the open video in its picture."""
    box = page.locator("[data-cy=modal] [data-cy=looker] canvas").first.bounding_box()
    height, width = SIZE
    scale = min(box["width"] / width, box["height"] / height)
    left = box["x"] + (box["width"] - scale * width) / 2
    top = box["y"] + (box["height"] - scale * height) / 2
    x, y, w, h = label.bounding_box
    rows, columns = np.nonzero(label.mask)
    middle = len(rows) // 2
    x += w * (columns[middle] + 0.5) / label.mask.shape[1]
    y += h * (rows[middle] + 0.5) / label.mask.shape[0]
    page.mouse.move(left + x * scale * width, top + y * scale * height)
    page.wait_for_timeout(500)
    page.mouse.click(left + x * scale * width, top + y * scale * height)


def propagate(page) -> None:
    page.get_by_text("Propagate labels", exact=True).last.click()


def choose(page, present: str, wanted: str) -> None:
    page.get_by_text(present, exact=True).last.click()
    page.get_by_role("option").filter(has_text=wanted).first.click()


def test_a_cut_in_the_middle(page, open_dataset, dataset, tmp_path, screenshot):
    shots = [render_scene(SIZE, 12, 2, seed=seed) for seed in (0, 9)]
    info = write_video(tmp_path / "two-shots.mp4", [f for shot in shots for f in shot.frames], 25)
    first = scene_sample(tmp_path / "first.mp4", shots[0])
    sample = video_sample(tmp_path / "two-shots.mp4", info)
    sample.frames[1] = fo.Frame(seed=first.frames[1].ground_truth.copy())
    dataset.add_sample(sample)
    dataset.name = f"cut-{next(NUMBERS)}"
    open_dataset(dataset)
    open_video(page)
    propagate(page)
    ready(page)
    execute(page)
    page.get_by_text("new shots begin at frames 13").first.wait_for()
    screenshot("day-cut")
    sample.reload()
    labeled = [n for n, frame in sample.frames.items() if frame["tracks"] and frame["tracks"].detections]
    assert labeled == list(range(1, 13))


def test_stop_leave_and_go_on(page, open_dataset, make_scene, screenshot):
    dataset = make_scene(LONG)
    open_dataset(dataset)
    page.locator("[data-cy=looker]").first.wait_for()
    propagate(page)
    page.get_by_text("1 video to track").wait_for()
    ready(page)
    execute(page)
    page.get_by_text("frames/s").wait_for()
    page.reload()  # the dialog is gone; the run goes on
    page.get_by_role("button", name="Stop tracking").click()
    page.get_by_text("Run", exact=True).first.wait_for()
    screenshot("day-came-back")
    execute(page)
    wait_until(page, lambda: not ct.api.stop.running(dataset))

    def labeled() -> int:
        dataset.reload()
        return len(
            dataset.match_frames(fo.ViewField("tracks.detections").length() > 0).values("frames.id")[0]
        )

    kept = labeled()
    assert 1 < kept < LONG
    page.reload()
    propagate(page)
    page.get_by_text("1 video to track").wait_for()
    ready(page)
    screenshot("day-continue")
    execute(page)
    page.get_by_text("1 video (").first.wait_for()
    screenshot("day-continued")
    assert labeled() == LONG


def test_a_failed_run_stays_on_the_screen(page, open_dataset, make_scene, screenshot):
    dataset = make_scene(8)
    open_dataset(dataset)
    page.locator("[data-cy=looker]").first.wait_for()
    propagate(page)
    page.get_by_text("1 video to track").wait_for()
    ready(page)
    Path(dataset.first().filepath).unlink()
    execute(page)
    page.get_by_text("Nothing was tracked").first.wait_for()
    page.wait_for_timeout(5000)  # longer than a toast
    assert page.get_by_text("Nothing was tracked").first.is_visible()
    screenshot("day-failed")


def test_one_object_a_range_and_edits(page, open_dataset, make_scene, screenshot):
    dataset = make_scene(12)
    open_dataset(dataset)
    sample = dataset.first()
    label = sample.frames[1].seed.detections[0]
    open_video(page)
    page.wait_for_timeout(3000)
    click_label(page, label)
    propagate(page)
    page.get_by_text("Only the 1 selected label").wait_for()
    ready(page)
    screenshot("day-selected")
