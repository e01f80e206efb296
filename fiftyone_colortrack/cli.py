"""The command `colortrack`, thin over `api`, `training` and `benchmark`; commands import what they use."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.terminal import console, progress_bar, score_table

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np

    from fiftyone_colortrack.api.training import TrainProgress
    from colortrack_benchmarks.protocols import Result
    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.video import Frames

# Threads that wait for each other by spinning take the cores from whatever else runs: beside other programs
# tracking was 3 times as slow. It is read when torch is first imported, which the commands do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    help="Label one frame of a video, get every frame labelled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
load_app = typer.Typer(help="Make a FiftyOne video dataset of a dataset's folder.", no_args_is_help=True)
benchmark_app = typer.Typer(
    help="Score a tracker on labelled video; needs no database.", no_args_is_help=True
)
app.add_typer(load_app, name="load")
app.add_typer(benchmark_app, name="benchmark")


OPTIONS = {
    "out_dir": "--out",
    "overwrite": "--overwrite",
    "resume": "--resume",
    "skip_existing": "--skip-existing",
}
"""What those parameters are called here that errors name, in brackets, as the way out."""
IMAGE_FRAME_RATE = 24.0  # of films of folders of images
COLOR_COLUMNS = {
    "color_top1": ("top-1", 100),
    "color_distance": ("distance", 1),
    "still_top1": ("top-1 in place", 100),
    "still_distance": ("distance in place", 1),
}
"""What the measures of `colorize` are called in its table, and what they are multiplied by."""
MODEL = "A name that `colortrack models` prints, a weights file, or the baselines identity, flow and raft."
Model = Annotated[str, typer.Option(help=MODEL)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best one there is by default.")]
Sequences = Annotated[str | None, typer.Option(help="Only these, separated by commas.")]
Split = Annotated[str | None, typer.Option(help="Only this split: val, train, test; split1-test of JHMDB.")]
Name = Annotated[str | None, typer.Option(help="Of the dataset.")]
VideoDir = Annotated[
    Path | None,
    typer.Option(help="Where encoded videos go: by default to colortrack-videos in the dataset's folder."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
OnError = Annotated[
    Literal["skip", "raise"],
    typer.Option(help="skip: leave out videos that fail, and say which; raise: the first one ends it."),
]
MaxFrames = Annotated[int | None, typer.Option(help="Cut videos after this many frames.")]
Videos = Annotated[
    list[Path], typer.Argument(help="Video files, or folders with the images of one video each.")
]
Films = Annotated[Path, typer.Option(help="Folder of the films.")]


def _in_a_folder(path: Path | None) -> Path | None:
    if path and not path.parent.is_dir():  # said before hours of work, not after
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the scores to this file as well.", callback=_in_a_folder),
]


def main() -> None:
    """Run the command. An error that the user can mend is one line, and exit status 2."""
    try:
        app()
    except ColorTrackError as error:
        text = re.sub(r"\((\w+)\)", lambda name: f"({OPTIONS.get(name[1], name[1])})", str(error))
        Console(stderr=True, soft_wrap=True).print(f"colortrack: {text}", markup=False, highlight=False)
        sys.exit(2)


@app.command()
def demo(
    davis: Annotated[
        Path | None, typer.Option(help="A DAVIS folder, instead of the demo's own videos.")
    ] = None,
    sequences: Sequences = None,
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    out: Annotated[Path, typer.Option(help="Where videos and pictures go.")] = Path("runs/demo"),
    app: Annotated[bool, typer.Option(help="Open the FiftyOne App on the result.")] = True,
) -> None:
    """Track real and rendered videos from their first frame, score the tracks, and show them."""
    from colortrack_benchmarks import demo

    demo.run(out, davis=davis, sequences=_names(sequences), model=model, app=app and sys.stdout.isatty())


@load_app.command("davis")
def load_davis(
    folder: Annotated[Path, typer.Argument(help="With JPEGImages, Annotations and ImageSets.")],
    name: Name = None,
    split: Split = None,
    sequences: Sequences = None,
    video_dir: VideoDir = None,
    overwrite: Overwrite = False,
    on_error: OnError = "raise",
) -> None:
    """DAVIS 2016 or 2017."""
    from fiftyone_colortrack.datasets.davis import load_davis

    with progress_bar() as update:
        dataset = load_davis(
            folder,
            name,
            split=split,
            sequences=_names(sequences),
            video_dir=video_dir,
            overwrite=overwrite,
            on_error=on_error,
            persistent=True,
            progress=update,
        )
    _print_dataset(dataset)


@load_app.command("jhmdb")
def load_jhmdb(
    folder: Annotated[
        Path, typer.Argument(help="With Rename_Images or ReCompress_Videos, and joint_positions.")
    ],
    name: Name = None,
    split: Split = None,
    video_dir: VideoDir = None,
    overwrite: Overwrite = False,
    on_error: OnError = "raise",
) -> None:
    """JHMDB: joints of people."""
    from fiftyone_colortrack.datasets.jhmdb import load_jhmdb

    with progress_bar() as update:
        dataset = load_jhmdb(
            folder,
            name,
            split=split,
            video_dir=video_dir,
            overwrite=overwrite,
            on_error=on_error,
            persistent=True,
            progress=update,
        )
    _print_dataset(dataset)


@load_app.command("kinetics")
def load_kinetics(
    source: Annotated[
        str, typer.Argument(help="A folder of videos, or kinetics-400, -600, -700 to download.")
    ],
    name: Name = None,
    split: Split = None,
    classes: Annotated[str | None, typer.Option(help="Only these actions, separated by commas.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="At most so many videos.")] = None,
    overwrite: Overwrite = False,
    on_error: OnError = "skip",
) -> None:
    """Kinetics: videos of actions, for training."""
    from fiftyone_colortrack.datasets.kinetics import load_kinetics

    with progress_bar() as update:
        dataset = load_kinetics(
            source,
            name,
            split=split,
            classes=_names(classes),
            max_samples=max_samples,
            overwrite=overwrite,
            on_error=on_error,
            persistent=True,
            progress=update,
        )
    _print_dataset(dataset)


@app.command()
def download(
    name: Annotated[Literal["davis-2016", "davis-2017", "jhmdb"], typer.Argument(help="A dataset.")],
    folder: Annotated[Path, typer.Argument(help="Where to; what is there is not fetched again.")],
) -> None:
    """Download a dataset's official archives, check and unpack them; a download that broke off goes on."""
    from fiftyone_colortrack.datasets.download import download

    with progress_bar() as update:
        root = download(name, folder, update)
    console.print(
        f"Make a dataset of it with: colortrack load {name.partition('-')[0]} {root}", soft_wrap=True
    )


@app.command()
def propagate(
    dataset: Annotated[str, typer.Argument(help="Name of a FiftyOne dataset of videos.")],
    seed_field: Annotated[
        str, typer.Argument(help="The frame field with labels, such as frames.ground_truth.")
    ],
    out_field: Annotated[str, typer.Argument(help="The frame field to write, such as frames.tracks.")],
    model: Model = "fast",
    seeds: Annotated[
        Literal["first", "all", "keyframes"], typer.Option(help="Which labelled frames to start from.")
    ] = "first",
    direction: Annotated[
        Literal["both", "forward", "backward"], typer.Option(help="In time, from the labelled frames.")
    ] = "both",
    overwrite: Overwrite = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Continue an earlier run.")] = False,
    on_error: OnError = "skip",
    device: Device = None,
    executor: Annotated[
        Literal["local", "delegated", "ray"],
        typer.Option(help="Who tracks: this process, workers of fiftyone delegated launch, or Ray's."),
    ] = "local",
    shards: Annotated[int, typer.Option(min=1, help="How many delegated operations share the videos.")] = 1,
) -> None:
    """Label every frame of the videos that have a labelled frame."""
    from fiftyone_colortrack.api import propagate

    view = _dataset(dataset)
    with progress_bar() as update:
        report = propagate(
            view,
            seed_field,
            out_field,
            model=model,
            seeds=seeds,
            direction=direction,
            overwrite=overwrite,
            skip_existing=skip_existing,
            on_error=on_error,
            device=device,
            executor=executor,
            shards=shards,
            progress=lambda step: update(step.done, step.total, f"{step.name}, {step.fps:.1f} frames/s"),
        )
    for warning in report.warnings:
        _warn(warning)
    for video in report.with_status("failed"):
        _warn(f"{video.filepath} failed: {video.reason}")
    console.print(str(report))


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="Name of a FiftyOne dataset of videos.")],
    predictions: Annotated[str, typer.Argument(help="The frame field with tracks, such as frames.tracks.")],
    truth: Annotated[str, typer.Argument(help="The frame field with ground truth.")] = "frames.ground_truth",
    eval_key: Annotated[str, typer.Option(help="The evaluation's name in the App.")] = "eval",
    overwrite: Overwrite = False,
) -> None:
    """Score tracks against ground truth; the App shows the scores in its Model Evaluation panel."""
    from fiftyone_colortrack.api.evaluation import evaluate_tracks, main_scores

    results = evaluate_tracks(_dataset(dataset), predictions, truth, eval_key, overwrite=overwrite)
    values = main_scores(results)
    scores = {label: math.nan if value is None else 100 * value for label, value in values.items()}
    console.print(score_table("percent", {predictions: scores}))


@app.command()
def report(
    dataset: Annotated[str, typer.Argument(help="Name of a FiftyOne dataset of videos.")],
    evaluation: Annotated[str, typer.Argument(help="An evaluation that colortrack evaluate made.")],
    against: Annotated[str | None, typer.Option(help="Another one, such as a baseline's.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="JF, J, F, PCK10 and so on; by default the evaluation's first.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Sample field that groups videos; by default attributes, if there are.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/report"),
) -> None:
    """Chart where tracks are good and where not: by attribute, time, colour error and confidence."""
    from fiftyone_colortrack.api.analysis import analyze
    from fiftyone_colortrack.report import write_report

    analysis = analyze(_dataset(dataset), evaluation, against, metric=metric, group_by=group_by)
    for text in analysis.missing:
        _warn(text)
    for path in write_report(analysis, out):
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def train(
    videos: Annotated[Path | None, typer.Option(help="A folder of videos, searched to any depth.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of photographs, searched to any depth.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model, for --model and the App.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep the run in this folder: weights, checkpoint, frames, logs.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="A model to start from, or nothing; by default the shipped one of --preset."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="fast or paper; by default that of --init, or fast.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="How many batches.")] = 1000,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Name of a file to leave out; may be given several times.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue this run, which was stopped or killed.")
    ] = False,
    overwrite: Overwrite = False,
    davis: Annotated[Path | None, typer.Option(help="Score J and F on this DAVIS folder.")] = None,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Print scores after so many steps.")] = 1000,
    seed: int = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or one GPU such as cuda:1; the GPU by default.")
    ] = None,
) -> None:
    """Train a tracker on videos and photographs, without labels."""
    from fiftyone_colortrack.api.training import NOTHING, train
    from fiftyone_colortrack.training import TrainingData

    init = init or preset or "fast"  # a preset's shipped weights have its name
    data = TrainingData.collect(videos or (), images or (), exclude or ())
    with _stop_on_interrupt() as stop, progress_bar() as update:
        result = train(
            data,
            name,
            init=None if init == NOTHING else init,
            preset=preset,
            steps=steps,
            out_dir=out,
            resume=resume,
            overwrite=overwrite,
            progress=_training_progress(update, evaluate_every),
            stop=stop,
            evaluate=_davis_scores(davis) if davis else None,
            evaluate_every=evaluate_every,
            seed=seed,
            device=device,
        )
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process reports
        return
    for file, reason in result.unreadable.items():
        _warn(f"left out {file}: {reason}")
    console.print(str(result), highlight=False, soft_wrap=True)
    if result.stopped:
        console.print("The same command with --resume goes on from there.")
        raise typer.Exit(130)
    console.print(f"Track with it: --model {name or result.weights}", highlight=False, soft_wrap=True)


def _training_progress(
    update: Callable[[int, int, str], None], print_every: int
) -> Callable[[TrainProgress], None]:
    """Moves the bar, and prints the numbers of some steps."""

    def show(step: TrainProgress) -> None:
        if step.numbers is None:
            update(step.done, step.total, f"reading frames: {step.file}")
            return
        update(step.done, step.total, f"training, loss {step.loss:.3g}")
        if step.done % print_every == 0 or step.done == step.total:
            numbers = {**step.numbers, "loss": step.loss}
            text = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
            console.print(f"step {step.done}: {text}", highlight=False, soft_wrap=True)

    return show


def _davis_scores(root: Path) -> Callable[[Embedder], dict[str, float]]:
    from colortrack_benchmarks.protocols import davis

    def score(model: Embedder) -> dict[str, float]:
        mean = davis(root, model=model, progress=False).mean
        return {name: mean[name] for name in ("J&F", "J", "F")}

    return score


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks the run to stop after the step in hand, a second one ends it at once."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _warn("stopping after this step; Ctrl-C again ends at once, and loses the steps since the checkpoint")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@benchmark_app.command("davis")
def benchmark_davis(
    root: Annotated[Path, typer.Option(help="A DAVIS 2016 or 2017 folder.")],
    sequences: Sequences = None,
    split: Split = None,
    model: Model = "fast",
    max_frames: MaxFrames = None,
    protocol: Annotated[
        Literal["field", "paper"],
        typer.Option(help="field: first frame + last 7, 480 pixels; paper: last 3, 256 x 256 pixels, T 0.5."),
    ] = "field",
    temperature: Annotated[float | None, typer.Option(help="Instead of the model's or protocol's T.")] = None,
    outlines: Annotated[
        bool | None, typer.Option(help="Masks follow the edges between colours; the paper's do not.")
    ] = None,
    device: Device = None,
    json: Json = None,
) -> None:
    """J and F in percent, from the first mask of each sequence."""
    from colortrack_benchmarks.protocols import davis
    from fiftyone_colortrack.tracking import TrackerConfig

    config = TrackerConfig.paper() if protocol == "paper" else TrackerConfig()
    config = replace(
        config,
        temperature=config.temperature if temperature is None else temperature,
        outlines=config.outlines if outlines is None else outlines,
    )
    result = davis(
        root,
        split=split,
        sequences=_names(sequences),
        model=model,
        max_frames=max_frames,
        config=config,
        device=device,
        progress=_print_progress,
    )
    _report(result, json)


@benchmark_app.command("jhmdb")
def benchmark_jhmdb(
    root: Annotated[Path, typer.Option(help="A JHMDB folder.")],
    split: Split = None,
    clips: Sequences = None,
    model: Model = "fast",
    device: Device = None,
    json: Json = None,
) -> None:
    """PCK in percent, legacy and strict, from the joints of each clip's first frame."""
    from colortrack_benchmarks.protocols import jhmdb

    result = jhmdb(
        root,
        split=split,
        clips=_names(clips),
        model=model,
        device=device,
        progress=_print_progress,
    )
    _report(result, json)


@benchmark_app.command("badja")
def benchmark_badja(
    root: Annotated[Path, typer.Option(help="A DAVIS folder.")],
    annotations: Annotated[Path, typer.Option(help="The folder with BADJA's joint annotations.")],
    sequences: Sequences = None,
    model: Model = "fast",
    device: Device = None,
    json: Json = None,
) -> None:
    """Strict PCK in percent, from the joints of each sequence's first annotated frame."""
    from colortrack_benchmarks.protocols import badja

    result = badja(
        root,
        annotations,
        sequences=_names(sequences),
        model=model,
        device=device,
        progress=_print_progress,
    )
    _report(result, json)


@app.command()
def colorize(
    videos: Videos, out: Films = Path("runs/films"), model: Model = "fast", device: Device = None
) -> None:
    """Predict the colours of videos from their first frames, and print how wrong they are."""
    from fiftyone_colortrack.films import colorize, mean_measures

    network, rows = _network(model, device), {}

    def pictures(frames: Frames, name: str) -> Iterator[np.ndarray]:
        measured = []
        for colored in colorize(frames, model=network, device=device):
            measured.append(colored.measures)
            yield colored.image
        means = mean_measures(measured)
        rows[name] = {
            label: factor * means[measure]
            for measure, (label, factor) in COLOR_COLUMNS.items()
            if measure in means
        }

    _write_films(videos, out, "colors", pictures)
    console.print(score_table("", rows))


@app.command()
def embed(
    videos: Videos,
    out: Films = Path("runs/films"),
    model: Model = "fast",
    basis: Annotated[
        Literal["video", "dataset"], typer.Option(help="What has one colour: within a video, or in all.")
    ] = "video",
    device: Device = None,
) -> None:
    """Show the embeddings of videos in false colours."""
    from fiftyone_colortrack.films import embedding_film, fit_embedding_basis
    from fiftyone_colortrack.model import load_model
    from fiftyone_colortrack.video import open_frames

    network = load_model(model, device)
    shared = fit_embedding_basis([open_frames(v) for v in videos], network) if basis == "dataset" else None
    _write_films(videos, out, "embedding", lambda frames, _: embedding_film(frames, network, shared))


@app.command()
def film(
    videos: Videos,
    mask: Annotated[
        Path | None,
        typer.Option(help="PNG with the numbers of the objects in the first frame, to track them."),
    ] = None,
    out: Films = Path("runs/films"),
    model: Model = "fast",
    device: Device = None,
) -> None:
    """Show videos, their tracks, predicted colours and embeddings side by side."""
    from fiftyone_colortrack.datasets.davis import read_mask
    from fiftyone_colortrack.films import overview, tracks_film
    from fiftyone_colortrack.model import load_model

    network = load_model(model, device)
    ids = read_mask(mask, 2017) if mask else None

    def pictures(frames: Frames, _: str) -> Iterator[np.ndarray]:
        return overview(frames, None if ids is None else tracks_film(frames, ids, network), network)

    _write_films(videos, out, "film", pictures)


@app.command()
def models() -> None:
    """List the models that can be named."""
    from fiftyone_colortrack.model.weights import list_models

    table = Table("name", "preset", "what it is", "scores", "file", box=None)
    for info in list_models():
        scores = ", ".join(f"{measure} {value:.1f}" for measure, value in info.scores.items())
        table.add_row(info.name, info.preset, info.description, scores, str(info.path or ""))
    console.print(table)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _dataset(name: str) -> fo.Dataset:
    import fiftyone as fo

    if not fo.dataset_exists(name):
        known = ", ".join(fo.list_datasets()) or "none yet"
        raise ColorTrackError(f"there is no dataset {name!r}; there are: {known}")
    return fo.load_dataset(name)


def _network(model: str, device: str | None) -> str | Embedder:
    from fiftyone_colortrack.model import load_model
    from fiftyone_colortrack.tracking import BASELINES

    return model if model in BASELINES else load_model(model, device)


def _write_films(
    videos: list[Path], out: Path, kind: str, pictures: Callable[[Frames, str], Iterator[np.ndarray]]
) -> None:
    """Write a film of every video; those that fail are named, and an error only if all do."""
    from fiftyone_colortrack.video import VideoFile, VideoWriter, open_frames

    paths = [out / f"{video.stem}-{kind}.mp4" for video in videos]
    if len(set(paths)) < len(paths):
        raise ColorTrackError("two of the videos have one name; make their films in separate folders (--out)")
    written = []
    with progress_bar() as update:
        for video, path in zip(videos, paths, strict=True):
            try:
                frames = open_frames(video)
                rate = frames.info.frame_rate if isinstance(frames, VideoFile) else IMAGE_FRAME_RATE
                with VideoWriter(path, rate) as writer:
                    for done, picture in enumerate(pictures(frames, video.name), 1):
                        writer.write(picture)
                        update(done, len(frames), video.name)
                written.append(path)
            except ColorTrackError as error:
                _warn(f"left out {video}: {error}")
    if not written:
        raise ColorTrackError("no film was made")
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


def _print_dataset(dataset: fo.Dataset) -> None:
    videos = "1 video" if len(dataset) == 1 else f"{len(dataset)} videos"
    folders = sorted({os.path.dirname(path) for path in dataset.values("filepath")})
    console.print(f"{dataset.name}: {videos}; open it with: fiftyone app launch {dataset.name}")
    if len(folders) == 1:
        console.print(f"The videos are in {folders[0]}", soft_wrap=True)
    for name, reason in dataset.info.get("skipped", {}).items():
        _warn(f"left out {name}: {reason}")


def _warn(text: str) -> None:
    console.print(text, style="yellow", markup=False, highlight=False)


def _print_progress(done: int, total: int, message: str) -> None:
    console.print(message, highlight=False)


def _report(result: Result, json: Path | None) -> None:
    console.print(score_table(f"{result.dataset}, {result.model}", result.table()))
    if json:
        result.save(json)
