import fiftyone_colortrack as ct

OBJECTS, FRAMES = 3, 24


def open_operator(page, label):
    """Choose an operator in the App's list of all operators."""
    page.locator("[data-cy=action-browse-operations]").first.click()
    page.keyboard.type(label)
    page.get_by_text(label, exact=True).last.click()


def execute(page):
    page.wait_for_timeout(2000)  # the form is resolved again whenever a default is filled in
    page.get_by_role("button", name="Execute").click()


def open_video(page, number=0):
    page.locator("[data-cy=looker]").nth(number).click()
    page.locator("[data-cy=modal]").wait_for()
    page.get_by_label("Show tracks").wait_for()


def test_label_one_frame_and_get_every_frame(page, scenes, screenshot):
    open_video(page)
    page.get_by_text("Propagate labels", exact=True).last.click()
    page.get_by_text("1 video to track, 24 frames.").wait_for()
    screenshot("propagate-form")
    execute(page)
    page.get_by_text("frames/s").wait_for()
    screenshot("propagate-progress")
    page.get_by_text("1 video (24 frames) tracked").first.wait_for()
    screenshot("propagate-done")

    scenes.reload()
    sample = scenes.first()
    assert sample.tracks_run is not None
    for frame in sample.frames.values():
        assert sorted(label.index for label in frame.tracks.detections) == [1, 2, 3]

    page.get_by_role("button", name="Done").click()
    open_video(page)
    page.get_by_label("Show tracks").click()
    for shown, other in ((2, "ground_truth"), (1, "seed")):
        page.locator(f"[data-cy=modal] [data-cy='checkbox-frames.{other}']").click()
        page.wait_for_function(f"document.querySelectorAll('[data-track-id]').length == {shown * OBJECTS}")
    tracks = page.locator("[data-track-id]")
    drawn = {label.instance.id for label in sample.frames[1].tracks.detections}
    assert {track.get_attribute("data-track-id") for track in tracks.all()} == drawn
    for _ in range(FRAMES // 2):
        page.keyboard.press(".")
    screenshot("tracks")


def test_scores_are_shown_in_the_evaluation_panel(page, scenes, screenshot):
    ct.propagate(scenes, "frames.seed", "frames.tracks", model="identity")
    page.reload()
    page.locator("[data-cy=looker]").first.wait_for()
    open_operator(page, "Evaluate tracks")
    page.get_by_text("46 frames of 2 videos have ground truth.").wait_for()
    screenshot("evaluate-form")
    execute(page)
    page.get_by_text("tracks_eval: J&F").first.wait_for()
    page.get_by_role("button", name="Done").click()
    page.get_by_text("tracks_eval", exact=True).last.click()
    page.get_by_text("J&F", exact=True).wait_for()
    screenshot("evaluation-panel")
    scenes.reload()
    results = scenes.load_evaluation_results("tracks_eval")
    for row in results.custom_metrics.values():
        page.get_by_text(row["label"], exact=True).first.wait_for()


def test_a_run_is_stopped(page, scenes, screenshot):
    page.get_by_text("Propagate labels", exact=True).first.click()
    page.get_by_text("2 videos to track, 48 frames.").wait_for()
    execute(page)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped: ").first.wait_for()
    screenshot("stopped")
    scenes.reload()
    finished = sum(run is not None for run in scenes.values("tracks_run"))
    assert finished < 2
    assert scenes.count("frames.tracks") == FRAMES * finished
