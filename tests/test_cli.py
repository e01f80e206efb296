"""The command: its help, its errors, and that each command reaches the code behind it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fiftyone_colortrack import terminal
from fiftyone_colortrack.cli import app, main
from fiftyone_colortrack.datasets.video_dataset import Instances, video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training import RECIPES, TrainResult
from fiftyone_colortrack.video import VideoFile, write_video


def run(*arguments: object) -> str:
    """What a command prints; its exceptions are not caught."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_is_fast_and_imports_neither_torch_nor_fiftyone():
    code = (
        "import sys; from typer.testing import CliRunner; from fiftyone_colortrack.cli import app\n"
        "print(CliRunner().invoke(app, ['--help']).output)\n"
        "sys.exit('torch' in sys.modules or 'fiftyone' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ("demo", "load", "propagate", "evaluate", "train", "benchmark", "models"):
        assert command in result.stdout


def test_an_error_is_one_line_and_exit_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    monkeypatch.setattr(sys, "argv", ["colortrack", "benchmark", "davis", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as exit:
        main()
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("colortrack: ")
    assert str(tmp_path) in error
    assert error.count("\n") == 1


def test_download_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []
    monkeypatch.setattr(
        "fiftyone_colortrack.datasets.download.download",
        lambda name, folder, progress: asked.append(name) or folder / "DAVIS",
    )
    assert f"colortrack load davis {tmp_path / 'DAVIS'}" in run("download", "davis-2017", tmp_path)
    assert asked == ["davis-2017"]


def test_ways_out_are_options(
    dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    sample = fo.Sample("video.mp4")
    sample.frames[1] = fo.Frame(seed=fo.Detections(), tracks=fo.Detections())
    dataset.add_sample(sample)
    monkeypatch.setattr(sys, "argv", ["colortrack", "propagate", dataset.name, "seed", "tracks"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert "replace its labels (--overwrite)" in error


def test_the_time_left_is_estimated_afresh_where_other_work_begins(monkeypatch: pytest.MonkeyPatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "console", terminal.Console(file=shown, force_terminal=True, width=100))
    with terminal.progress_bar() as update:
        for done, text in ((1, "reading"), (2, "reading"), (1, "training")):
            update(done, 2, text)
    bar = shown.getvalue().rpartition("training")[2]
    assert "1/2" in bar
    assert "-:--:--" in bar


def test_models_lists_lab():
    assert "lab" in run("models")


def test_benchmark_davis_writes_what_it_prints(davis_squares: Path, tmp_path: Path):
    file = tmp_path / "scores.json"
    printed = run("benchmark", "davis", "--root", davis_squares, "--model", "identity", "--json", file)
    scores = json.loads(file.read_text())
    assert scores["model"] == "identity"
    assert set(scores["sequences"]) == {"squares"}
    assert {"J", "F", "J&F", "fps", "peak_rss_mb"} <= set(scores["mean"])
    assert 0 < scores["mean"]["J"] < 60  # the squares move away from their first place
    assert f"{scores['mean']['J']:.1f}" in printed


def test_benchmark_davis_takes_the_named_sequences_and_frames(davis_squares: Path, tmp_path: Path):
    file = tmp_path / "scores.json"
    options = ("--sequences", "squares", "--max-frames", 3, "--model", "identity", "--json", file)
    run("benchmark", "davis", "--root", davis_squares, *options)
    short = json.loads(file.read_text())["mean"]["J"]
    run("benchmark", "davis", "--root", davis_squares, "--model", "identity", "--json", file)
    assert short > json.loads(file.read_text())["mean"]["J"]


def test_load_propagate_evaluate(davis_squares: Path, database: None):
    name = "test-cli-davis"
    try:
        assert "1 video" in run("load", "davis", davis_squares, "--name", name)
        truth, tracks = "frames.ground_truth", "frames.tracks"
        assert "8 frames" in run("propagate", name, truth, tracks, "--model", "identity")
        printed = run("evaluate", name, tracks, "--eval-key", "first")
        dataset = fo.load_dataset(name)
        assert dataset.persistent
        assert dataset.list_evaluations() == ["first"]
        assert f"{100 * dataset.first()['first_J']:.1f}" in printed
    finally:
        fo.delete_dataset(name)


def test_evaluate_leaves_a_score_empty_that_there_is_none_of(dataset: fo.Dataset, squares_file: Path):
    sample = fo.Sample(filepath=str(squares_file))
    for number in (1, 2, 3):
        hidden, tracked = (  # in every frame
            fo.Keypoints(keypoints=[fo.Keypoint(index=1, points=points)])
            for points in ([(np.nan, np.nan)] * 2, [(0.2, 0.2), (0.4, 0.4)])
        )
        sample.frames[number] = fo.Frame(gt=hidden, tracks=tracked)
    dataset.add_sample(sample)
    dataset.add_dynamic_frame_fields()
    printed = run("evaluate", dataset.name, "tracks", "gt")
    (row,) = [line for line in printed.splitlines() if "tracks" in line]
    assert printed.count("(strict)") == 2
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["", ""]


def test_report(davis_squares: Path, tmp_path: Path, database: None):
    name, out = "test-cli-report", tmp_path / "report"
    try:
        run("load", "davis", davis_squares, "--name", name)
        for model in ("flow", "identity"):
            run("propagate", name, "frames.ground_truth", f"frames.{model}", "--model", model)
            run("evaluate", name, f"frames.{model}", "--eval-key", model)
        printed = run("report", name, "flow", "--against", "identity", "--metric", "J", "--out", out)
        assert "run Colorize videos" in printed
        assert str(out / "report.html") in printed
        stored = json.loads((out / "report.json").read_text())
        assert stored["metric"] == "J"
        assert stored["totals"]["flow"] > stored["totals"]["identity"]
        (by_sequence,) = stored["breakdowns"][0]["scores"]["flow"]
        assert by_sequence["x"] == "squares"
        assert by_sequence["mean"] == pytest.approx(stored["totals"]["flow"])
        for picture in ("videos.png", "time.png", "confidence.png"):
            with Image.open(out / picture) as image:
                image.load()
        with pytest.raises(ColorTrackError, match="there is no evaluation of tracks 'lab'"):
            run("report", name, "lab", "--out", out)
    finally:
        fo.delete_dataset(name)


def test_propagate_prints_what_was_left_out(dataset: fo.Dataset, squares: tuple, tmp_path: Path):
    frames, ids = squares
    path = tmp_path / "good.mp4"
    info = write_video(path, frames, 10)
    good = video_sample(path, info)
    good.frames[1] = fo.Frame(seed=Instances().detections(ids[0], info))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = fo.Sample(filepath=str(tmp_path / "bad.mp4"))
    bad.frames[1] = fo.Frame(seed=Instances().detections(ids[0], info))
    dataset.add_samples([good, bad])
    printed = run("propagate", dataset.name, "frames.seed", "frames.tracks", "--model", "identity")
    assert "bad.mp4 failed" in printed
    assert "1 failed" in printed
    assert dataset.count("frames.tracks") == 8
    with pytest.raises(ColorTrackError, match=r"bad\.mp4"):
        run("propagate", dataset.name, "seed", "others", "--model", "identity", "--on-error", "raise")


def test_films_of_plain_files(squares_file: Path, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    broken, mask, out = tmp_path / "broken.mp4", tmp_path / "mask.png", tmp_path / "films"
    broken.write_bytes(b"no video")
    Image.fromarray(squares[1][0]).save(mask)
    printed = run("colorize", squares_file, broken, "--model", "lab", "--out", out)
    assert "left out" in printed
    assert "distance in place" in printed
    run("embed", squares_file, "--model", "lab", "--basis", "dataset", "--out", out)
    run("film", squares_file, "--model", "lab", "--mask", mask, "--out", out)
    widths = {path.name: VideoFile(path).width for path in out.iterdir()}
    assert widths == {"squares-colors.mp4": 96, "squares-embedding.mp4": 96, "squares-film.mp4": 4 * 96}
    with pytest.raises(ColorTrackError, match="no film was made"):
        run("colorize", broken, "--model", "lab", "--out", out)
    with pytest.raises(ColorTrackError, match="one name"):
        run("embed", squares_file, squares_file, "--model", "lab", "--out", out)


SMALL_BATCHES = """
from dataclasses import replace
from fiftyone_colortrack.training import RECIPES
RECIPES["fast"] = replace(RECIPES["fast"], frame_pairs=1, view_pairs=1, crops=(64,))
"""


@pytest.fixture
def training_folder(squares_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video and a broken file; models are kept in a temporary home, batches are small."""
    monkeypatch.setitem(RECIPES, "fast", RECIPES["fast"])
    exec(SMALL_BATCHES)
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path / "home"))
    (squares_file.parent / "broken.mp4").write_bytes(b"no video")
    return squares_file.parent


def test_train_names_a_model_and_prints_its_scores(training_folder: Path, davis_squares: Path):
    options = ("--name", "mine", "--steps", 1, "--evaluate-every", 1, "--exclude", "other")
    printed = run("train", "--videos", training_folder, *options, "--davis", davis_squares)
    (line,) = [line for line in printed.splitlines() if line.startswith("step 1: ")]
    assert all(number in line for number in ("loss", "reconstruction", "color_error", "J&F"))
    assert "left out" in printed
    assert "broken.mp4" in printed
    assert "waiting for data" in printed
    assert "J&F" in printed.splitlines()[-2]
    assert printed.splitlines()[-1] == "Track with it: --model mine"
    assert "mine" in run("models")
    with pytest.raises(ColorTrackError, match="nothing to train on"):
        run(
            "train", "--videos", training_folder, "--name", "b", "--exclude", "squares", "--exclude", "broken"
        )


@pytest.mark.parametrize(
    ("options", "init"),
    [
        ((), "fast"),
        (("--preset", "paper"), "paper"),
        (("--init", "nothing"), None),
        (("--init", "mine", "--preset", "fast"), "mine"),
    ],
)
def test_train_starts_from_shipped_weights_unless_told(
    training_folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], init: str | None
):
    given: dict[str, object] = {}

    def train(*_: object, **arguments: object) -> TrainResult:
        given.update(arguments)
        return TrainResult(Path("mine.safetensors"))

    monkeypatch.setattr("fiftyone_colortrack.api.training.train", train)
    run("train", "--videos", training_folder, "--name", "mine", *options)
    assert given["init"] == init


def test_train_is_interrupted_and_resumed(training_folder: Path, tmp_path: Path):
    options = ("train", "--videos", training_folder, "--out", tmp_path / "run", "--evaluate-every", 1)
    start = f"{SMALL_BATCHES}\nfrom fiftyone_colortrack.cli import main; main()"
    command = [sys.executable, "-c", start, *map(str, options), "--steps", "10000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line.startswith("step "))
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
    assert process.returncode == 130
    assert "stopped after" in rest
    assert "--resume goes on" in rest
    assert (tmp_path / "run" / "last.ckpt").exists()
    steps = int(rest.partition("stopped after ")[2].split()[0]) + 1
    printed = run(*options, "--steps", steps, "--resume")
    assert f"trained for {steps} steps" in printed
    assert f"Track with it: --model {tmp_path / 'run' / 'fast.safetensors'}" in printed
