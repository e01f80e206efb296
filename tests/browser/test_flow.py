"""From a folder of frames to tracks that somebody has corrected, and films, all in the App."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from PIL import Image

import fiftyone_colortrack as ct
from colortrack_benchmarks.scenes import load_scenes, render_scene
from tests.browser.steps import (
    choose_folder,
    colors_on_screen,
    done,
    execute,
    open_operator,
    ready,
    wait_until,
)

FRAMES = {"parade": 12, "traffic": 60}  # the second one is there to be stopped
NAME = "davis-2017"  # which the form proposes


@pytest.fixture
def davis(tmp_path: Path) -> Iterator[Path]:
    """A DAVIS 2017 folder with two rendered sequences; the dataset that is made of it is deleted."""
    lists = tmp_path / "DAVIS" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(FRAMES))
    for seed, (name, length) in enumerate(FRAMES.items()):
        scene = render_scene((160, 240), length, 2, difficulty="hard", seed=seed)
        images, masks = (tmp_path / "DAVIS" / k / "480p" / name for k in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t, (frame, ids) in enumerate(zip(scene.frames, scene.masks, strict=True)):
            Image.fromarray(frame).save(images / f"{t:05}.jpg", quality=95)
            mask = Image.fromarray(ids)
            mask.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
            mask.save(masks / f"{t:05}.png")
    yield tmp_path / "DAVIS"
    if fo.dataset_exists(NAME):
        fo.delete_dataset(NAME)


def correct(sample: fo.Sample, number: int) -> None:
    """Give the tracks of a frame the shapes of the ground truth, as a person does who draws them anew."""
    frame = sample.frames[number]
    truth = {label.index: label for label in frame.ground_truth.detections}
    for label in frame.tracks.detections:
        label.mask, label.bounding_box = truth[label.index].mask, truth[label.index].bounding_box
        label["keyframe"] = True
    sample.save()


@pytest.mark.skipif(not os.environ.get("COLORTRACK_SOAK"), reason="takes minutes; `make soak` runs it")
def test_load_propagate_stop_resume_evaluate_suggest_correct(
    page, server, open_dataset, dataset, davis, screenshot
):
    dataset.add_sample(fo.Sample(filepath=str(next(davis.rglob("*.jpg")))))  # an empty one has no operators
    open_dataset(dataset)
    open_operator(page, "Load DAVIS", search="davis")
    choose_folder(page, davis)
    page.get_by_text(f"2 videos, {sum(FRAMES.values())} frames").wait_for()
    ready(page)
    screenshot("load-form")
    execute(page)
    page.wait_for_url(f"**/datasets/{NAME}*")
    loaded = fo.load_dataset(NAME)
    open_dataset(loaded)
    page.locator("[data-cy=looker]").nth(1).wait_for()

    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text(f"2 videos to track, {sum(FRAMES.values())} frames").wait_for()
    execute(page)
    page.get_by_text("video 2 of 2").wait_for()
    page.get_by_role("button", name="Stop").dispatch_event("click")  # it moves with the progress
    page.get_by_text(re.compile(r"Stopped: 2 videos \(\d+ frames\) tracked")).first.wait_for()
    screenshot("propagate-stopped")
    done(page)
    loaded.reload()
    assert [run is not None for run in loaded.values("tracks_run")] == [True, False]

    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("Skipped: 1 finished by earlier runs").wait_for()
    ready(page)
    screenshot("propagate-continue")
    execute(page)
    page.get_by_text(re.compile(r"1 video \(\d+ frames\) tracked")).first.wait_for()  # the rest of it
    loaded.reload()
    assert None not in loaded.values("tracks_run")

    page.get_by_role("button", name="Evaluate tracks").click()
    page.get_by_text("will be scored").wait_for()
    ready(page)
    execute(page)
    page.get_by_text("tracks_eval: J").first.wait_for()
    screenshot("evaluate-links")
    page.get_by_role("button", name="See where tracks fail").click()
    page.locator(".js-plotly-plot").first.wait_for()
    done(page)
    screenshot("flow-panel")

    loaded.reload()
    sample = loaded.last()
    page.goto(f"{server}/datasets/{NAME}?id={sample.id}")  # suggestions are for videos still loading, too
    page.get_by_text("Suggest frame to label", exact=True).last.click()
    note = page.get_by_text("Correct frame")
    note.wait_for()
    number = int(re.search(r"frame (\d+)", note.inner_text()).group(1))
    hundredths = 100 * (number - 1) / sample.metadata.frame_rate
    times = (f"0:{rounded(hundredths) / 100:05.2f} /" for rounded in (math.floor, round))
    page.get_by_text(re.compile("|".join(times))).wait_for()
    screenshot("suggest")

    correct(sample, number)
    drawn = [(label.id, label.mask.tobytes()) for label in sample.frames[number].tracks.detections]
    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("Only frames that depend on corrections are re-tracked").wait_for()
    ready(page)
    screenshot("correct-form")
    execute(page)
    page.get_by_text("1 video (").first.wait_for()
    screenshot("correct-done")
    sample.reload()
    assert sample.tracks_run != loaded.first().tracks_run
    assert [(label.id, label.mask.tobytes()) for label in sample.frames[number].tracks.detections] == drawn


@pytest.fixture
def films(database: None, tmp_path: Path) -> Iterator[fo.Dataset]:
    """The film of predicted colors of a rendered video, and that of its embeddings."""
    videos = load_scenes(tmp_path, "browser-films", 1, frames=12, overwrite=True)
    for make in (ct.colorize, ct.embed):
        report = make(videos, model="lab")
    yield report.dataset
    report.dataset.delete()
    videos.delete()


def test_films_are_shown_frame_by_frame(page, server, films, screenshot):
    canvas = "[data-cy=modal] [data-cy=looker] canvas"
    for film in films:
        page.goto(f"{server}/datasets/{films.name}?id={film.id}")
        page.get_by_text("0:00.00 / 0:00.50").wait_for()
        first = colors_on_screen(page, canvas)
        for _ in range(6):
            page.keyboard.press(".")
        page.get_by_text("0:00.25 /").wait_for()
        wait_until(page, lambda first=first: len(colors_on_screen(page, canvas).keys() - first.keys()) > 1000)
        screenshot(f"film-{film.film}")
