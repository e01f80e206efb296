"""The ColorTrack panel: what is clicked in its charts is shown in the grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_colortrack as ct
from colortrack_benchmarks.scenes import load_scenes
from tests.browser.steps import open_video

PLOT = ".js-plotly-plot"
NUMBERS = count(1)


@pytest.fixture
def tracked(database: None, tmp_path: Path) -> Iterator[fo.Dataset]:
    """Three rendered videos with ground truth and tracks of both baselines."""
    # The server keeps datasets that it has shown: none may have the name of a deleted one.
    dataset = load_scenes(tmp_path, f"my-videos-{next(NUMBERS)}", 3, frames=12, overwrite=True)
    dataset.delete_frame_fields(["boxes", "points"])
    dataset.set_values("attributes", [["OCC"], ["OCC", "FM"], ["FM"]])
    for baseline in ("identity", "flow"):
        ct.propagate(dataset, "frames.ground_truth", f"frames.{baseline}", model=baseline)
    yield dataset
    dataset.delete()


def open_panel(page) -> None:
    page.locator("[data-cy=looker]").first.wait_for()
    page.locator("[data-cy=new-panel-btn]").first.click()
    page.locator("[data-cy=new-panel-option-colortrack_panel]").click()


def click_mark(page, mark) -> None:
    """Clicks a bar or point, over which Plotly lays something that takes the clicks."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".hoverlayer .hovertext").first.wait_for()
    page.mouse.down()
    page.mouse.up()


def test_from_no_evaluation_to_a_chart(page, open_dataset, tracked, screenshot):
    open_dataset(tracked)
    open_panel(page)
    page.get_by_text("No evaluation yet").wait_for()
    page.get_by_role("button", name="Evaluate tracks").click()
    page.get_by_text("will be scored").wait_for()
    page.wait_for_timeout(2000)  # the form is resolved again whenever a default is filled in
    page.get_by_role("button", name="Execute").click()
    page.locator(PLOT).first.wait_for()  # by itself, when the evaluation is done
    screenshot("panel-after-evaluation")


def test_clicks_on_bars_and_lines(page, open_dataset, tracked, screenshot):
    for baseline in ("identity", "flow"):
        ct.evaluate_tracks(tracked, f"frames.{baseline}", "frames.ground_truth", f"{baseline}_eval")
    open_dataset(tracked)
    open_panel(page)
    page.locator(PLOT).nth(2).wait_for()
    page.get_by_text("FM: fast motion, OCC: occlusion").wait_for()
    screenshot("panel")
    click_mark(page, page.locator(f"{PLOT} .bars .point path").first)
    page.get_by_text("2 samples").wait_for()
    page.locator("[data-cy=looker]").nth(1).wait_for()
    screenshot("panel-bar-clicked")
    click_mark(page, page.locator(PLOT).nth(1).locator(".points path").first)
    page.get_by_text("3 clips").wait_for()
    page.locator("[data-cy=looker]").nth(2).wait_for()
    screenshot("panel-point-clicked")


def test_beside_a_video_it_shows_confidence_and_goes_to_doubtful_frames(
    page, open_dataset, tracked, screenshot
):
    first = tracked.first()
    first.frames[8]["flow"].detections[0].confidence = 0.05
    first.save()
    open_dataset(tracked)
    open_video(page)
    page.set_default_timeout(45_000)
    modal = page.locator("[data-cy=modal]")
    modal.locator("[data-cy=panel-tab-colortrack_panel]").click()
    modal.locator(PLOT).wait_for()
    modal.locator("[title='Split horizontally']").first.click()
    modal.locator("[data-cy=looker]").wait_for()
    modal.locator(PLOT).wait_for()
    modal.get_by_role("button", name="Next doubtful frame").click()
    modal.get_by_text("0:00.29 / 0:00.50").wait_for()  # frame 8 at 24 frames per second
    screenshot("panel-beside-video")
