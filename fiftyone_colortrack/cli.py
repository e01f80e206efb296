"""The command `colortrack`: each command has the parameters of one function and prints its result."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import App, CycloptsError, Parameter, Token, UnknownCommandError
from rich.table import Table

from fiftyone_colortrack.errors import ColorTrackError, OnError
from fiftyone_colortrack.progress import ctrl_c
from fiftyone_colortrack.terminal import console, score_table, warn
from fiftyone_colortrack.version import __version__

if TYPE_CHECKING:
    import fiftyone as fo

    from colortrack_benchmarks.protocols import Result
    from fiftyone_colortrack.api.analysis import Analysis
    from fiftyone_colortrack.api.films import FilmReport
    from fiftyone_colortrack.api.report import PropagationReport
    from fiftyone_colortrack.api.suggestion import Suggestion
    from fiftyone_colortrack.model import ModelInfo
    from fiftyone_colortrack.model.colorizer import Embedder
    from fiftyone_colortrack.training import TrainResult

# Threads that spin while they wait slow down other programs: tracking took three times as long beside one.
# torch reads this setting when it is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BAD_INPUT, INTERRUPTED = 2, 130  # exit statuses
DOWNLOADED = "Run the same command again to continue the download."
AGAIN = "Run the same command again to start over."
SKIP_EXISTING = "Finished videos are kept. Run the same command with --skip-existing to continue."
FINISHED = "Finished videos are kept. Run the same command again to continue."
ENCODED = "No dataset was created. Run the same command again: it reuses the videos that are already encoded."
COLOR_COLUMNS = {
    "color_top1": ("top-1 (percent)", 100),
    "color_distance": ("distance", 1),
    "still_top1": ("top-1 in place (percent)", 100),
    "still_distance": ("distance in place", 1),
}
"""Headers of the measures of `colorize` in its table, and the factors of their values."""

app = App(
    name="colortrack",
    help="Label one frame of a video and get every frame labeled.",
    version=__version__,
    help_format="markdown",
    default_parameter=Parameter(
        negative_iterable=(),
        negative_none=(),
        # Neither None nor () is a word that one can type; the help says what they mean.
        show_default=lambda value: (
            ("off", "on")[value] if isinstance(value, bool) else None if value in (None, ()) else str(value)
        ),
    ),
)
load_app = App(name="load", help="Create a FiftyOne video dataset.")
benchmark_app = App(name="benchmark", help="Score a tracker on labeled videos, without a database.")
app.command(load_app)
app.command(benchmark_app)

_HIDDEN = {"progress", "stop", "persistent", "recipe", "on_numbers"}
_TYPES: dict[str, Any] = {"samples": str, "model": str, "device": str | None}
"""Types of options for parameters that also take objects in Python."""


_BUILD: dict[str, Callable[[], Callable[..., None]]] = {}
"""Builds the function of a command, by its name in this module."""


def command(
    parent: App, name: str, target: str, interrupted: str = AGAIN, about: str = "", **made: Callable[..., Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of the function below, which prints what the `target` (module and name) returns.

    The function's keyword-only parameters are options as well. Its docstring is the help of the command, unless
    `about` says otherwise. After Ctrl-C, `interrupted` says what is finished, and how to continue. The arguments in
    `made` come from functions with options of their own.
    """

    def register(show: Callable[..., None]) -> Callable[..., None]:
        key = f"run_{parent.name[0]}_{name.replace('-', '_')}"
        _BUILD[key] = partial(_build, target, show, interrupted, made)
        parent.command(f"{__name__}:{key}", name=name, help=about or show.__doc__)
        return show

    return register


def _build(
    target: str, show: Callable[..., None], interrupted: str, made: Mapping[str, Callable[..., Any]]
) -> Callable[..., None]:
    """The function of a command, with the signature that its options come from."""
    module, name = target.split(":")
    function = getattr(import_module(module), name)
    own = inspect.signature(function).parameters
    options = [_option(function, p) for p in own.values() if p.name not in _HIDDEN | {*made}]
    for source in (*made.values(), show):
        parameters = inspect.signature(source).parameters.values()
        options += [_option(source, p) for p in parameters if p.kind is p.KEYWORD_ONLY]
    hidden = {"progress": sys.stderr.isatty(), "persistent": True}
    signature = inspect.Signature(options)

    def run(*args: Any, **kwargs: Any) -> None:
        values = signature.bind(*args, **kwargs).arguments
        try:
            with _interrupts(interrupted, "stop" in own) as stop:
                given = {name: value for name, value in values.items() if name in own}
                given |= {name: _call(make, values) for name, make in made.items()}
                given |= {name: value for name, value in {**hidden, "stop": stop}.items() if name in own}
                _call(show, values, function(**given))
        except ColorTrackError as error:
            raise ColorTrackError(_as_options(str(error), options)) from error

    run.__doc__ = _as_options(inspect.getdoc(function) or "", options)
    if "config" in own:
        run.__doc__ += _settings()
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def __getattr__(name: str) -> Callable[..., None]:
    """The function of a command. It is built, and what it needs is imported, when the command is called."""
    if name not in _BUILD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _BUILD[name]()


def _option(function: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter of a function as one of a command."""
    if parameter.name == "config":
        from fiftyone_colortrack.tracking.config import TrackerConfig

        flat = Annotated[TrackerConfig | None, Parameter(name="*", negative_none="no-")]
        return parameter.replace(annotation=flat)
    many = re.search(r"\b(Sequence|Iterable|list)\[", str(parameter.annotation))
    kind = _TYPES.get(parameter.name, parameter.annotation)
    if isinstance(kind, str):
        kind = eval(kind, {"OnError": OnError, **function.__globals__})
    if many and parameter.name == "samples":
        kind = list[str]
    elif kind in (str | Path, str | Path | None):
        kind = Path
    if parameter.default is None:
        kind = kind | None
    settings: dict[str, Any] = {} if parameter.default is True else {"negative_bool": ()}
    if str in (kind, *get_args(kind)):
        settings["metavar"] = "TEXT"
    if parameter.name == "out_dir":
        settings["name"] = "--out"
    if many and parameter.kind is parameter.KEYWORD_ONLY:
        settings |= {"converter": _split, "n_tokens": 1, "metavar": "TEXT,..."}
    return parameter.replace(annotation=Annotated[kind, Parameter(**settings)])


def _split(kind: Any, tokens: Sequence[Token]) -> list[str | int]:
    """The items of a list that commas separate; numbers, where it may have them."""
    items = [item.strip() for token in tokens for item in token.value.split(",") if item.strip()]
    return [int(item) if "int" in str(kind) and item.isdigit() else item for item in items]


def _call(function: Callable[..., Any], values: Mapping[str, Any], *first: Any) -> Any:
    """Call a function with those of the values that it has parameters for."""
    names = inspect.signature(function).parameters
    return function(*first, **{name: value for name, value in values.items() if name in names})


def _as_options(text: str, options: Sequence[inspect.Parameter]) -> str:
    """A text in which parameters, such as `(name)`, `skip=True`, and `seeds="all"`, become options."""
    names = {option.name: "out" if option.name == "out_dir" else option.name for option in options}

    def rename(match: re.Match[str]) -> str:
        name = names.get(match[1] or match[2])
        if name is None:
            return match[0]
        flag = f"--{name.replace('_', '-')}"
        value = "" if match[3] in (None, "True") else f" {match[3].strip(chr(34))}"
        return f"({flag})" if match[1] else flag + value

    return re.sub(r"\((\w+)\)|\b(\w+)=(True|\"\w+\")", rename, text)


def _settings() -> str:
    """The tracker's settings, for the docstring of a command with `config`; None is a flag or the default."""
    from fiftyone_colortrack.tracking.config import TrackerConfig

    doc = inspect.getdoc(TrackerConfig) or ""
    text = "\n\nAttributes:\n"
    for item in re.split(r"^    (?=\w+: )", doc[: doc.index("Raises:")], flags=re.MULTILINE)[1:]:
        name = item.partition(":")[0]
        if getattr(TrackerConfig(), name) is None:
            item = re.sub(r"None\s+uses", "Default:", item)
        item = re.sub(r", see `\w+`", "", item).replace("None", f"--no-{name.replace('_', '-')}")
        text += f"    config.{item}"
    return text


@contextmanager
def _interrupts(advice: str, stoppable: bool) -> Iterator[Callable[[], bool]]:
    """Ends a command on Ctrl-C with exit status 130 and advice. The second Ctrl-C ends it at once.

    The first one asks work that is `stoppable` to stop, through the function that this yields.
    """

    def ask() -> None:
        if not stoppable:
            raise KeyboardInterrupt
        warn("Stopping after the current step. Press Ctrl-C again to stop at once.")

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)  # cleans up on the way

    def send_again(ignored: Any) -> None:
        """Repeat a signal that came while Python ran code whose exceptions it ignores, such as a destructor."""
        number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(ignored.exc_type)
        if number is None:
            hook(ignored)
        else:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    handlers = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, end))
    before = {number: signal.signal(number, handler) for number, handler in handlers}
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        with ctrl_c(ask) as stop:
            yield stop
        return
    except KeyboardInterrupt:
        pass
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
    warn(f"Stopped. {advice}")
    raise SystemExit(INTERRUPTED)


Videos = Annotated[Path | None, Parameter(help="folder of videos, including its subfolders")]
Images = Annotated[Path | None, Parameter(help="folder of images, including its subfolders")]
Davis = Annotated[Path | None, Parameter(help="DAVIS folder to score the model on during training")]
Html = Annotated[Path, Parameter(help="HTML file to write")]


def _training_videos(*, videos: Videos = None) -> Path | tuple[()]:
    return videos or ()


def _training_images(*, images: Images = None) -> Path | tuple[()]:
    return images or ()


def _davis_scores(*, davis: Davis = None) -> Callable[[Embedder], dict[str, float]] | None:
    if davis is None:
        return None
    from colortrack_benchmarks.protocols import davis as benchmark

    def score(model: Embedder) -> dict[str, float]:
        mean = benchmark(davis, model=model).mean
        return {name: mean[name] for name in ("J&F", "J", "F")}

    return score


@command(app, "demo", "colortrack_benchmarks.demo:run", "Run the same command again.")
def demo(dataset: fo.Dataset) -> None:
    """Track example videos from their first frame, score the tracks, and open the App."""


def _line(text: str) -> None:
    """Print a line that may hold a path: it is neither colored nor broken."""
    console.print(text, highlight=False, soft_wrap=True)


def _show_dataset(dataset: fo.Dataset) -> None:
    from fiftyone_colortrack.api.report import plural

    folders = {os.path.dirname(path) for path in dataset.values("filepath")}
    console.print(
        f"{dataset.name}: {plural(len(dataset), 'video')}. Open it: fiftyone app launch {dataset.name}"
    )
    if len(folders) == 1:
        console.print(f"The videos are in {folders.pop()}", soft_wrap=True)
    for name, reason in dataset.info.get("skipped", {}).items():
        warn(f"Skipped {name}: {reason}")


for _name, _target, _about in (
    ("davis", "fiftyone_colortrack.datasets.davis:load_davis", "Load DAVIS 2016 or 2017."),
    ("jhmdb", "fiftyone_colortrack.datasets.jhmdb:load_jhmdb", "Load JHMDB: people and their joints."),
    (
        "kinetics",
        "fiftyone_colortrack.datasets.kinetics:load_kinetics",
        "Load Kinetics, or a folder of videos, for training.",
    ),
    ("scenes", "colortrack_benchmarks.scenes:load_scenes", "Render videos with exact labels."),
):
    command(load_app, _name, _target, ENCODED, _about)(_show_dataset)


@command(app, "download", "fiftyone_colortrack.datasets.download:download", DOWNLOADED)
def download(root: Path) -> None:
    """Download, verify, and unpack the official archives of a dataset."""
    kind = "davis" if (root / "JPEGImages").is_dir() else "jhmdb"
    console.print(f"Next: colortrack load {kind} {root}", soft_wrap=True)


@command(app, "propagate", "fiftyone_colortrack.api.propagation:propagate", SKIP_EXISTING)
def propagate(report: PropagationReport) -> None:
    """Propagate labels from some frames of each video to all frames."""
    for text in report.warnings:
        warn(text)
    for video in report.with_status("failed"):
        warn(f"{video.filepath} failed: {video.reason}")
    console.print(report.headline, soft_wrap=True)


@command(app, "suggest", "fiftyone_colortrack.api.suggestion:suggest")
def suggest(suggestions: Mapping[str, Sequence[Suggestion]]) -> None:
    """Suggest which frames to label next."""
    table = Table("video", "frame", "why", box=None)
    for found in suggestions.values():
        for suggestion in found:
            table.add_row(suggestion.filepath, str(suggestion.frame_number), suggestion.reason)
    console.print(table)


@command(app, "evaluate", "fiftyone_colortrack.api.evaluation:evaluate_tracks")
def evaluate(results: Any) -> None:
    """Score tracks against ground truth. The Model Evaluation panel of the App shows the scores."""
    from fiftyone_colortrack.api.evaluation import main_scores

    values = main_scores(results)
    scores = {name: None if value is None else 100 * value for name, value in values.items()}
    console.print(score_table("percent", {results.config.pred_field: scores}))


@command(app, "report", "fiftyone_colortrack.api.analysis:analyze")
def report(analysis: Analysis, *, out: Html = Path("report.html")) -> None:
    """Chart where tracks succeed and fail: by attribute, time, color error, and confidence."""
    from fiftyone_colortrack.charts import write_report

    for text in analysis.missing:
        warn(text)
    _line(str(write_report(analysis, out)))


@command(app, "export", "fiftyone_colortrack.exports:export_tracks")
def export(folder: Path) -> None:
    """Export tracks and their videos as MOT Challenge, YouTube-VIS, or DAVIS."""
    _line(str(folder))


command(app, "import", "fiftyone_colortrack.exports:import_tracks", about="Load exported tracks.")(
    _show_dataset
)


@command(
    app,
    "delete-tracks",
    "fiftyone_colortrack.api.edits:delete_tracks",
    "Run the same command again to finish.",
)
def delete_tracks(result: None) -> None:
    """Delete a field of tracks and everything that belongs to it."""


@command(
    app,
    "train",
    "fiftyone_colortrack.api.training:train",
    "Run the same command with --resume to continue.",
    samples=_training_videos,
    images=_training_images,
    evaluate=_davis_scores,
)
def train(result: TrainResult) -> None:
    """Train a tracker on videos and images, without labels."""
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process reports
        return
    for file, reason in result.unreadable.items():
        warn(f"Skipped {file}: {reason}")
    _line(str(result))
    if not result.stopped:
        _line(f"Track with it: --model {result.model}")


def _show_videos(report: FilmReport) -> None:
    failed = report.with_status("failed")
    for video in failed:
        warn(f"Skipped {video.filepath}: {video.reason}")
    if failed and len(failed) == len(report.videos):
        raise ColorTrackError("no video could be rendered; see the reasons above")
    rows = {
        os.path.basename(video.filepath): {
            header: factor * video.measures[name] for name, (header, factor) in COLOR_COLUMNS.items()
        }
        for video in report.videos
        if video.measures
    }
    if rows:
        console.print(score_table("color error", rows))
    for video in report.videos:
        if video.path:
            _line(str(video.path))
    console.print(str(report), soft_wrap=True)


for _name, _about in (
    ("colorize", "Predict the colors of videos from their first frames, and measure the error."),
    ("embed", "Show the embeddings of videos in false colors."),
    ("film", "Show videos, their tracks, predicted colors, and embeddings side by side."),
):
    command(app, _name, f"fiftyone_colortrack.api.films:{_name}", FINISHED, _about)(_show_videos)


@command(app, "models", "fiftyone_colortrack.model:list_models")
def models(infos: Sequence[ModelInfo]) -> None:
    """List the shipped models and your own."""
    table = Table("name", "preset", "description", "scores", "file", box=None)
    for info in infos:
        scores = ", ".join(f"{measure} {value:.1f}" for measure, value in info.scores.items())
        table.add_row(info.name, info.preset, info.description, scores, str(info.path or ""))
    console.print(table)


def _json_path(kind: Any, path: Path | None) -> None:
    if path and not path.parent.is_dir():  # before hours of work, not after them
        raise ColorTrackError(f"the folder {path.parent} of --json does not exist; create it first")
    if path and not os.access(path.parent, os.W_OK):
        raise ColorTrackError(f"the folder {path.parent} of --json cannot be written to; choose another one")


Json = Annotated[Path | None, Parameter(help="also write the scores to this file", validator=_json_path)]


def _show_scores(result: Result, *, json: Json = None) -> None:
    console.print(score_table(f"{result.dataset}, {result.model}", result.table()))
    if json:
        result.save(json)


for _name, _about in (
    ("davis", "Score J and F on DAVIS, from the first mask of each sequence."),
    ("jhmdb", "Score PCK on JHMDB, legacy and strict, from the joints of each clip's first frame."),
    ("badja", "Score strict PCK on BADJA, from the joints of each sequence's first annotated frame."),
):
    command(benchmark_app, _name, f"colortrack_benchmarks.protocols:{_name}", about=_about)(_show_scores)


def main() -> None:
    """Run the command line. On bad input, print one line to standard error and exit with status 2."""
    try:
        app(print_error=False, exit_on_error=False, result_action="return_value")
    except (CycloptsError, ColorTrackError) as error:
        if isinstance(error, UnknownCommandError):  # whose text would import every command
            text = f'unknown command "{(error.unused_tokens or [""])[0]}"; see colortrack --help'
        else:
            text = " ".join(str(error).split()).replace("TrackerConfig.", "--")
        warn(f"colortrack: {text}")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:  # the second Ctrl-C
        sys.exit(INTERRUPTED)
