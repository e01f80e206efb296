"""The command: its help, its errors, what Ctrl-C does, and what its commands print and write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cyclopts
import fiftyone as fo
import numpy as np
import pytest

from fiftyone_colortrack import cli
from fiftyone_colortrack.datasets.video_dataset import Instances, video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.training import RECIPES
from fiftyone_colortrack.video import VideoFile, write_video

Run = Callable[..., str]
ROOT = Path(__file__).resolve().parents[1]
START = "from fiftyone_colortrack.__main__ import main; main()"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command here, and returns what it prints; its errors are not caught."""

    def call(*arguments: object) -> str:
        options = {"print_error": False, "exit_on_error": False, "result_action": "return_value"}
        cli.app([str(argument) for argument in arguments], **options)
        captured = capsys.readouterr()
        return captured.out + captured.err

    return call


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command as a user does; returns the one line of its error, and checks the exit status."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["colortrack", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        error = capsys.readouterr().err
        assert exit.value.code == 2
        (line,) = [line for line in error.splitlines() if line.startswith("colortrack: ")]
        assert error.endswith(f"{line}\n")
        return line

    return call


def start(*arguments: object, code: str = START) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


@pytest.fixture
def loaded(davis_squares: Path, run: Run, database: None) -> Iterator[str]:
    """The name of a dataset that `colortrack load` made."""
    name = "test-cli-davis"
    assert "1 video" in run("load", "davis", davis_squares, "--name", name)
    yield name
    fo.delete_dataset(name)


def test_help_imports_neither_torch_nor_fiftyone() -> None:
    code = (
        "import sys\nfrom fiftyone_colortrack.__main__ import main\n"
        "try: main()\nfinally: print(sorted({'torch', 'fiftyone', 'scipy'} & {*sys.modules}))"
    )
    with start("--help", code=code) as process:
        shown = process.stdout.read()
    assert shown.splitlines()[-1] == "[]"
    for command in ("demo", "load", "propagate", "evaluate", "train", "benchmark", "models"):
        assert command in shown


@pytest.mark.parametrize("command", sorted(cli._BUILD))
def test_every_option_is_explained(command: str) -> None:
    app = cyclopts.App(help_format="plaintext")
    app.default(getattr(cli, command))
    arguments = app.assemble_argument_collection(parse_docstring=True)
    missing = [a.name for a in arguments if a.show and not a.children and not a.parameter.help]
    assert missing == []


def test_version(run: Run) -> None:
    assert run("--version").strip() == cli.__version__


def test_bad_input_is_one_line(fails: Run, tmp_path: Path) -> None:
    assert str(tmp_path) in fails("benchmark", "davis", "--root", tmp_path)
    assert "--memory" in fails("propagate", "any", "seed", "tracks", "--memory", 1000)
    assert "--on-error" in fails("propagate", "any", "seed", "tracks", "--on-error", "whatever")
    assert "nothing-like-it" in fails("propagate", "nothing-like-it", "seed", "tracks")
    assert "--nope" in fails("models", "--nope")
    assert "nope" in fails("nope")


def test_ways_out_are_options(dataset: fo.Dataset, fails: Run, squares_file: Path) -> None:
    sample = fo.Sample(str(squares_file))
    box = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])])
    sample.frames[1] = fo.Frame(seed=box, tracks=box)
    dataset.add_sample(sample)
    assert "(--overwrite)" in fails("propagate", dataset.name, "seed", "tracks")


def test_models_lists_lab(run: Run) -> None:
    assert "lab" in run("models")


def test_benchmark_davis_writes_what_it_prints(davis_squares: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "scores.json"
    command = ("benchmark", "davis", "--root", davis_squares, "--model", "identity", "--json", file)
    printed = run(*command)
    scores = json.loads(file.read_text())
    assert scores["model"] == "identity"
    assert set(scores["sequences"]) == {"squares"}
    assert {"J", "F", "J&F", "fps", "peak_rss_mb"} <= set(scores["mean"])
    assert 0 < scores["mean"]["J"] < 60  # the squares move away from their first place
    assert f"{scores['mean']['J']:.1f}" in printed
    run(*command, "--sequences", "squares", "--max-frames", 3)
    assert json.loads(file.read_text())["mean"]["J"] > scores["mean"]["J"]
    with pytest.raises(cyclopts.ValidationError, match="nowhere"):
        run(*command[:-1], tmp_path / "nowhere" / "scores.json")


def test_the_trackers_settings_are_options(davis_squares: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "scores.json"
    for size in ("64", "96"):
        run("benchmark", "davis", davis_squares, "--model", "lab", "--input-size", size, "--json", file)
        scores = json.loads(file.read_text())["mean"]
        assert scores["J"] > 60


def test_propagate_evaluate_report(loaded: str, run: Run, tmp_path: Path) -> None:
    truth, out = "frames.ground_truth", tmp_path / "report.html"
    for model in ("flow", "identity"):
        assert "8 frames" in run("propagate", loaded, truth, f"frames.{model}", "--model", model)
        printed = run("evaluate", loaded, f"frames.{model}", truth, model)
        dataset = fo.load_dataset(loaded)
        assert f"{100 * dataset.first()[f'{model}_J']:.1f}" in printed
    assert dataset.persistent
    assert dataset.list_evaluations() == ["flow", "identity"]
    printed = run("report", loaded, "flow", "--against", "identity", "--metric", "J", "--out", out)
    assert str(out) in printed
    assert "flow" in out.read_text()
    with pytest.raises(ColorTrackError, match="lab"):
        run("report", loaded, "lab", "--out", out)
    exported = tmp_path / "mot"
    assert str(exported) in run("export", loaded, "frames.flow", exported)
    assert list(exported.glob("*/gt/gt.txt"))
    printed = run("suggest", loaded, "frames.flow", "--count", 2)
    assert printed.count("squares.mp4") == 2
    run("delete-tracks", loaded, "frames.flow")
    dataset.reload()
    assert not dataset.has_frame_field("flow")


def test_objects_and_frames_can_be_chosen(loaded: str, run: Run) -> None:
    run("propagate", loaded, "ground_truth", "t", "--model", "flow", "--objects", "1", "--frames", 1, 4)
    frames = fo.load_dataset(loaded).first().frames
    assert [d.index for d in frames[4].t.detections] == [1]
    assert frames[5].t is None


def test_propagate_prints_what_was_left_out(
    dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, run: Run
) -> None:
    frames, ids = squares
    info = write_video(tmp_path / "good.mp4", frames, 10)
    good = video_sample(tmp_path / "good.mp4", info)
    good.frames[1] = fo.Frame(seed=Instances().detections(ids[0], info))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = fo.Sample(filepath=str(tmp_path / "bad.mp4"))
    bad.frames[1] = fo.Frame(seed=Instances().detections(ids[0], info))
    dataset.add_samples([good, bad])
    printed = run("propagate", dataset.name, "frames.seed", "frames.tracks", "--model", "identity")
    assert "bad.mp4" in printed
    assert "1 failed" in printed
    assert dataset.count("frames.tracks") == 8
    with pytest.raises(ColorTrackError, match=r"bad\.mp4"):
        run("propagate", dataset.name, "seed", "others", "--model", "identity", "--on-error", "raise")


def test_names_are_printed_as_they_are(
    dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, run: Run, fails: Run
) -> None:
    folder = tmp_path / "[red]" / "a [" / "x] :key:"
    written = write_video(folder / "[b]v[" / "b].mp4", squares[0], 10)
    assert written.frame_count == 8
    (path,) = folder.rglob("*.mp4")
    dataset.add_sample(fo.Sample(filepath=str(path)))
    printed = run("colorize", dataset.name, "--model", "identity", "--out", folder / "[out]")
    assert f"{folder}/[out]/b]-colors-" in printed
    assert str(folder) in fails("benchmark", "davis", folder)


def test_videos_of_a_dataset(
    dataset: fo.Dataset, squares_file: Path, tmp_path: Path, run: Run, fails: Run
) -> None:
    broken, out = tmp_path / "broken.mp4", tmp_path / "out"
    broken.write_bytes(b"no video")
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in (squares_file, broken)])
    options = ("--model", "lab", "--out", out)
    printed = run("colorize", dataset.name, *options)
    assert str(broken) in printed
    assert "distance in place" in printed
    run("embed", dataset.name, *options, "--basis", "dataset")
    run("film", dataset.name, *options)
    widths = {path.name.rpartition("-")[0]: VideoFile(path).width for path in out.iterdir()}
    kinds = {"colors": 96, "embedding": 96, "overview": 2 * 96}
    assert widths == {f"squares-{kind}": width for kind, width in kinds.items()}
    dataset.delete_samples(dataset[:1])
    fails("colorize", dataset.name, *options)


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
    folder = tmp_path / "to train on"  # images anywhere in the folder are trained on as well
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"no video")
    squares_file.rename(folder / squares_file.name)
    return folder


def test_train_names_a_model(training_folder: Path, davis_squares: Path, run: Run) -> None:
    options = ("--name", "mine", "--steps", 1, "--evaluate-every", 1, "--exclude", "other")
    printed = run("train", "--videos", training_folder, *options, "--davis", davis_squares)
    assert "broken.mp4" in printed
    assert "J&F" in printed
    assert "--model mine" in printed
    assert "mine" in run("models")
    with pytest.raises(ColorTrackError, match="nothing to train on"):
        run("train", "--videos", training_folder, "--name", "b", "--exclude", "squares,broken")


def test_train_is_interrupted_and_resumed(training_folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    options = ("train", "--videos", training_folder, "--out", out, "--steps")
    with start(*options, 10_000, code=f"{SMALL_BATCHES}\n{START}") as process:
        while not list(out.glob("*/**/events.*")):  # TensorBoard's, written at the first step
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed = process.stdout.read()
    assert process.returncode == 130, printed
    assert "--resume" in printed
    assert "Traceback" not in printed
    steps = int(printed.partition("stopped after ")[2].split()[0]) + 1
    printed = run(*options, steps, "--resume")
    assert f"{steps} steps" in printed
    assert f"--model {out / 'fast.safetensors'}" in printed


@pytest.fixture
def long_video(dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> str:
    """The name of a dataset with a video of 800 frames."""
    path = tmp_path / "long.mp4"
    write_video(path, np.tile(squares[0], (100, 1, 1, 1)), 10)
    dataset.add_sample(fo.Sample(filepath=str(path)))
    return dataset.name


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_a_command_without_a_traceback(long_video: str, tmp_path: Path, signals: int) -> None:
    out = tmp_path / "out"
    with start("film", long_video, "--model", "lab", "--out", out) as process:
        while not list(out.glob(".*")):  # the file that is being written
            assert process.poll() is None
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        printed = process.stdout.read()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert "Run the same command again" in printed
    assert list(out.iterdir()) == []


def test_sigterm_leaves_no_temporary_file(long_video: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("film", long_video, "--model", "lab", "--out", out) as process:
        while not list(out.glob(".*")):
            assert process.poll() is None
        process.terminate()
        printed = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in printed
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_fiftyone_is_imported(number: int) -> None:
    """FiftyOne catches every exception there, and the command would go on."""
    code = (
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'fiftyone.core.config': os.kill(os.getpid(), {number:d})\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    with start("suggest", "none", "tracks", code=code + START) as process:
        printed = process.stdout.read()
    assert process.returncode == 128 + number
    assert printed == "Stopped.\n"


def test_ctrl_c_while_a_dataset_is_loaded(davis_squares: Path, database: None) -> None:
    code = (  # Ctrl-C while a sample is added
        "import os, signal\nimport fiftyone as fo\nadd = fo.Dataset.add_sample\n"
        "def interrupted(*arguments, **options):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return add(*arguments, **options)\n"
        "fo.Dataset.add_sample = interrupted\n"
    )
    before = fo.list_datasets()
    with start("load", "davis", davis_squares, "--name", "test-cli-stopped", code=code + START) as process:
        printed = process.stdout.read()
    assert process.returncode == 130, printed
    assert "No dataset was created" in printed
    assert fo.list_datasets() == before


@pytest.mark.parametrize("command", ["demo", "benchmark davis --root DAVIS", "train --videos V", "models"])
def test_commands_start_without_their_options(command: str) -> None:
    function, bound, _ = cli.app.parse_args(command.split(), print_error=False, exit_on_error=False)
    function.__signature__.bind(*bound.args, **bound.kwargs)
