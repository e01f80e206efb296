"""Whole runs, tiny ones. What must be killed, or needs several processes, runs `runs.py` as a program."""

import os
import resource
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics import score_sequence
from fiftyone_colortrack.model import load_model, save_model
from fiftyone_colortrack.model.color import rgb_to_lab
from fiftyone_colortrack.model.colorizer import ClipHead, Embedder, build, copy_colors
from fiftyone_colortrack.model.weights import read_info
from fiftyone_colortrack.tracking import Tracker
from fiftyone_colortrack.training import RECIPES, TrainingData, fit
from fiftyone_colortrack.training.checkpoint import CHECKPOINT
from fiftyone_colortrack.training.losses import windowed_affinity

TINY = replace(RECIPES["fast"], frame_pairs=2, view_pairs=2, walks=1, crops=(64,), warm_up=5, ema=0.9)
RUNS = Path(__file__).with_name("runs.py")


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of batch normalization are taken from small frames, to save time."""
    monkeypatch.setattr("fiftyone_colortrack.training.scoring.TRACKED_SIDE", 96)


def run(mode: str, videos: Path, out: Path, *arguments: str, processes: int = 1) -> int:
    """Runs `runs.py`; the exit status."""
    command = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    environment = {**os.environ, "PYTHONPATH": str(RUNS.parents[2]), "OMP_NUM_THREADS": "1"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo"}
    command += [str(RUNS), mode, str(videos), str(out), *arguments]
    return subprocess.run(command, env=environment, check=False, timeout=900).returncode


def color_error(model: Embedder, frames: list) -> float:
    """Mean error of ab copied from the first frame to the last, by the reconstruction's own affinity."""
    pair = torch.stack([torch.from_numpy(frames[i]).permute(2, 0, 1) for i in (0, -1)])
    gray = pair.float().mean(1, keepdim=True).round().byte().expand(-1, 3, -1, -1)
    first, last = model.embed(gray)[:, None]
    ab = torch.nn.functional.avg_pool2d(rgb_to_lab(pair.float() / 255)[:, 1:], 8).flatten(2)
    copied = copy_colors(windowed_affinity(last, first, 12, 0.07), ab[:1])
    return float((copied - ab[1:]).abs().mean())


def track_quality(model: Embedder, frames: list, masks) -> float:
    tracked = Tracker(frames, masks[0], model=model)
    return score_sequence(np.stack([t.labels for t in tracked]), masks)[1].J.mean


def noisy(frames: list, masks: np.ndarray) -> tuple[list, np.ndarray]:
    """A scene that random features lose: without noise they follow these discs as well as learned ones."""
    rng = np.random.default_rng(0)
    return [np.clip(f + rng.normal(0, 60, f.shape), 0, 255).astype(np.uint8) for f in frames], masks


def test_a_short_run_lowers_color_error_and_raises_j(videos: Path, scene: Callable, tmp_path: Path) -> None:
    steps: list[int] = []
    result = fit(
        TrainingData.collect(videos),
        steps=240,
        out_dir=tmp_path,
        recipe=TINY,
        device="cpu",
        on_step=lambda step, total, losses: steps.append(step),
        evaluate=lambda model: {"dim": float(model.dim)},
        evaluate_every=80,
    )
    assert steps == list(range(1, 241))
    assert set(result.losses) == {"loss", "reconstruction", "correspondence"}
    assert result.start["dim"] == result.scores["dim"] == 236
    assert result.scores["color_error"] < result.start["color_error"]
    assert 0 <= result.waiting < 0.5
    assert not result.stopped
    log = (tmp_path / "logs" / "csv" / "metrics.csv").read_text()
    assert all(name in log for name in ("reconstruction", "waiting", "color_error", "dim"))

    torch.manual_seed(0)
    before = build("fast", lab_weight=0).eval()
    after = load_model(result.weights, "cpu", lab_weight=0)
    scenes = [scene(seed) for seed in range(11, 17)]
    frames = scenes[0][0]
    assert color_error(after, frames) < color_error(before, frames)
    gains = [track_quality(after, *noisy(*one)) - track_quality(before, *noisy(*one)) for one in scenes]
    assert np.mean(gains) > 0.03  # .056 to .058 with several seeds and instruction sets


def test_paper_learns_its_palette_and_trains(videos: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPES["paper"], clips=1, crops=(64,))
    result = fit(
        TrainingData.collect(videos), "paper", steps=2, out_dir=tmp_path, recipe=recipe, device="cpu"
    )
    palette = load_model(result.weights, "cpu").palette
    assert palette.unique(dim=0).shape == (16, 2)
    assert palette.abs().max() <= 1


def test_a_share_of_clips_is_seen_as_stills(videos: Path, tmp_path: Path, monkeypatch) -> None:
    lengths = []
    forward = ClipHead.forward

    def spy(head: ClipHead, features: torch.Tensor, length: int) -> torch.Tensor:
        if head.training:
            lengths.append(length)
        return forward(head, features, length)

    monkeypatch.setattr(ClipHead, "forward", spy)
    recipe = replace(RECIPES["paper"], clips=1, crops=(64,), stills=0.5)
    fit(TrainingData.collect(videos), "paper", steps=4, out_dir=tmp_path, recipe=recipe, device="cpu")
    assert lengths == [4, 1, 4, 1]


def test_fine_tuning_starts_from_the_given_weights(videos: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = save_model(build("fast"), tmp_path / "start.safetensors")
    recipe = replace(TINY, learning_rate=0.0)
    data = TrainingData.collect(videos)
    result = fit(data, steps=1, out_dir=tmp_path / "run", init=start, recipe=recipe, device="cpu")
    before, after = load_file(start), load_file(result.weights)
    assert torch.equal(before["project.weight"], after["project.weight"])
    with pytest.raises(ColorTrackError, match="preset 'fast', not 'paper'"):
        fit(data, "paper", steps=1, out_dir=tmp_path / "other", init=start)


def test_what_was_chosen_for_the_first_weights_holds_for_the_fine_tuned(videos: Path, tmp_path: Path) -> None:
    options = {"lab_weight": 0.5, "channels": 32}
    chosen = {"temperature": 0.03, "options": options}
    start = save_model(build("fast", **options), tmp_path / "start.safetensors", **chosen)
    data = TrainingData.collect(videos)
    result = fit(data, steps=1, out_dir=tmp_path / "run", init=start, recipe=TINY, device="cpu")
    model = load_model(result.weights, "cpu")
    assert (model.temperature, model.lab_weight, model.dim) == (0.03, 0.5, 32 + 108)
    assert "fine-tuned from start: 1 steps on 4 clips" in read_info(result.weights).description


def test_a_stopped_run_goes_on_where_it_was(videos: Path, tmp_path: Path) -> None:
    data, asked = TrainingData.collect(videos), iter([False] * (4 + 2) + [True])
    common = {"steps": 5, "recipe": TINY, "device": "cpu"}
    stopped = fit(data, out_dir=tmp_path / "run", stop=lambda: next(asked), **common)
    assert (stopped.stopped, stopped.steps, stopped.scores) == (True, 3, {})
    assert stopped.weights is None
    with pytest.raises(ColorTrackError, match="3 steps"):
        fit(data, out_dir=tmp_path / "run", resume=True, **{**common, "steps": 2})
    steps = []
    resumed = fit(
        data, out_dir=tmp_path / "run", resume=True, on_step=lambda step, *_: steps.append(step), **common
    )
    assert steps == [4, 5]
    assert resumed.start == stopped.start != {}
    whole = load_file(fit(data, out_dir=tmp_path / "whole", **common).weights)
    assert all(torch.equal(value, whole[key]) for key, value in load_file(resumed.weights).items())


def test_a_resumed_run_keeps_what_it_began_with(videos: Path, tmp_path: Path) -> None:
    options = {"lab_weight": 0.5, "channels": 32}
    chosen = {"temperature": 0.03, "options": options}
    start = save_model(build("fast", **options), tmp_path / "start.safetensors", **chosen)
    data, asked = TrainingData.collect(videos), iter([False] * 4 + [True])
    common = {"steps": 2, "out_dir": tmp_path / "run", "device": "cpu"}
    fit(data, init=start, seed=7, recipe=TINY, stop=lambda: next(asked), **common)
    start.unlink()
    common |= {"resume": True}
    with pytest.raises(ColorTrackError, match="began with other files, or another cache_budget"):
        fit(TrainingData.collect([videos / "0.mp4"]), seed=7, recipe=TINY, **common)
    with pytest.raises(ColorTrackError, match=r"began with seed 7, not 0, ema 0\.9, not 0\.5"):
        fit(data, recipe=replace(TINY, ema=0.5), **common)
    result = fit(data, seed=7, recipe=TINY, **common)
    model = load_model(result.weights, "cpu")
    assert (model.temperature, model.lab_weight, model.dim) == (0.03, 0.5, 32 + 108)
    assert "fine-tuned from start: 2 steps on 4 clips" in read_info(result.weights).description


@pytest.mark.parametrize("device", ["mps", "meta", "cuda:99", "abacus"])
def test_a_device_that_cannot_train_is_refused(videos: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(ColorTrackError, match=f"device '{device}' cannot"):
        fit(TrainingData.collect(videos), steps=1, out_dir=tmp_path, device=device)


def test_decoding_is_stopped(videos: Path, tmp_path: Path) -> None:
    result = fit(TrainingData.collect(videos), steps=1, out_dir=tmp_path, stop=lambda: True)
    assert (result.stopped, result.steps) == (True, 0)


def test_images_alone_are_enough_for_fast(tmp_path: Path, scene: Callable) -> None:
    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), scene(seed, frames=1)[0][0])
    data = TrainingData.collect(images=tmp_path)
    result = fit(data, steps=1, out_dir=tmp_path / "run", device="cpu")
    assert set(result.losses) == {"loss", "correspondence"}
    with pytest.raises(ColorTrackError, match="longer videos"):
        fit(data, "paper", steps=1, out_dir=tmp_path / "other", device="cpu")


def test_a_run_of_another_preset_is_not_resumed(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect(videos)
    fit(data, steps=1, out_dir=tmp_path, recipe=TINY, device="cpu")
    with pytest.raises(ColorTrackError, match="began with preset 'fast', not 'paper'"):
        fit(data, "paper", steps=2, out_dir=tmp_path, resume=True, device="cpu")


def test_a_run_is_replaced_only_if_asked(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect(videos)
    common = {"out_dir": tmp_path, "recipe": TINY, "device": "cpu"}
    fit(data, steps=2, **common)
    with pytest.raises(ColorTrackError, match=r"resume.*overwrite"):
        fit(data, steps=1, **common)
    with pytest.raises(ColorTrackError, match=r"resume.*overwrite"):
        fit(data, steps=1, resume=True, overwrite=True, **common)
    assert fit(data, steps=1, overwrite=True, **common).steps == 1
    with pytest.raises(ColorTrackError, match="'lab' cannot be trained"):
        fit(data, "lab", steps=1, out_dir=tmp_path / "other")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["pickle", "empty", "text", "zip", "cut", "weights"])
def test_no_file_but_a_checkpoint_is_resumed(videos: Path, tmp_path: Path, content: str) -> None:
    data, checkpoint, ran = TrainingData.collect(videos), tmp_path / CHECKPOINT, tmp_path / "ran"
    common = {"out_dir": tmp_path, "recipe": TINY, "device": "cpu"}
    if content == "pickle":
        torch.save({"global_step": 0, "x": Evil(ran)}, checkpoint)
    elif content == "zip":
        with zipfile.ZipFile(checkpoint, "w") as archive:
            archive.writestr("a", "b")
    elif content == "cut":
        fit(data, steps=1, **common)
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    elif content == "weights":
        save_model(build("fast"), tmp_path / "some.safetensors").rename(checkpoint)
    else:
        checkpoint.write_bytes(b"hello" if content == "text" else b"")
    with pytest.raises(ColorTrackError, match=CHECKPOINT) as error:
        fit(data, steps=2, resume=True, **common)
    assert "\n" not in str(error.value)
    assert not ran.exists()


def test_two_trainings_do_not_share_a_folder(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect(videos)
    common = {"steps": 1, "out_dir": tmp_path, "recipe": TINY, "device": "cpu"}

    def second(*_: object) -> None:
        with pytest.raises(ColorTrackError, match=f"another training run uses {tmp_path}"):
            fit(data, overwrite=True, **common)

    assert fit(data, on_step=second, **common).weights
    assert fit(data, resume=True, **common).weights


def test_ctrl_c_keeps_a_checkpoint(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect(videos)
    common = {"steps": 4, "recipe": TINY, "device": "cpu"}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    def press(step: int, *_: object) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(data, out_dir=tmp_path / "run", on_step=press, **common)

    def interrupt(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, out_dir=tmp_path / "run", on_step=interrupt, resume=True, **common)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not any(path.name.startswith(".") for path in (tmp_path / "run").iterdir())
    steps: list[int] = []
    resumed = fit(
        data, out_dir=tmp_path / "run", resume=True, on_step=lambda step, *_: steps.append(step), **common
    )
    assert steps == [4]
    whole = load_file(fit(data, out_dir=tmp_path / "whole", **common).weights)
    assert all(torch.equal(value, whole[key]) for key, value in load_file(resumed.weights).items())


def test_a_full_disk_is_an_error_that_names_the_folder(videos: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    data, out = TrainingData.collect(videos), tmp_path / "run"
    common = {"out_dir": out, "recipe": TINY, "device": "cpu", "cache_dir": tmp_path / "cache"}
    fit(data, steps=1, **common)
    before = (out / CHECKPOINT).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(ColorTrackError, match=str(out)):
            fit(data, steps=2, resume=True, **common)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (out / CHECKPOINT).read_bytes() == before
    assert {path.name for path in out.iterdir()} == {CHECKPOINT, "fast.safetensors", "logs"}


def test_accumulated_batches_are_one_step(videos: Path, tmp_path: Path) -> None:
    data = TrainingData.collect(videos)
    common = {"recipe": replace(TINY, accumulate=2), "device": "cpu"}
    steps: list[int] = []
    whole = fit(
        data, steps=2, out_dir=tmp_path / "whole", on_step=lambda step, *_: steps.append(step), **common
    )
    assert steps == [1, 2]
    fit(data, steps=2, out_dir=tmp_path / "run", stop=stop_after(len(data) + 1), **common)
    resumed = fit(data, steps=2, out_dir=tmp_path / "run", resume=True, **common)
    assert load_file(whole.weights)["project.weight"].equal(load_file(resumed.weights)["project.weight"])


def stop_after(questions: int) -> Callable[[], bool]:
    asked = iter([False] * (questions - 1))
    return lambda: next(asked, True)


def test_training_is_imported_where_the_apps_server_runs() -> None:
    """The server's folder comes first on its path, and has modules of common names, such as `lightning`."""
    code = (
        "import sys, fiftyone.constants as foc; sys.path.insert(0, foc.SERVER_DIR)\n"
        "import fiftyone_colortrack.training.trainer"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=RUNS.parents[2])


def test_a_killed_run_resumes_exactly(videos: Path, tmp_path: Path) -> None:
    assert run("whole", videos, tmp_path / "whole") == 0
    assert run("killed", videos, tmp_path / "killed") == -signal.SIGKILL
    assert run("resumed", videos, tmp_path / "killed") == 0
    whole, resumed = (load_file(tmp_path / name / "fast.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    whole, resumed = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)


def test_two_processes_equal_one_with_the_doubled_batch(videos: Path, tmp_path: Path) -> None:
    assert run("doubled", videos, tmp_path / "one") == 0
    assert run("halves", videos, tmp_path / "two", processes=2) == 0
    one, two = (load_file(tmp_path / name / "fast.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-4, rtol=1e-3)
