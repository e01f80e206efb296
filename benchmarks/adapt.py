"""Does it pay to tune the network on the very video that it is about to track? J&F and seconds per sequence.

    python benchmarks/adapt.py --root DAVIS [--steps 0 50 150] [--sequences NAME ...] [--max-frames N]
        [--pairs 3] [--rate 1e-4] [--model fast] [--json FILE]

Colors need no labels: before it tracks, the network is trained for some steps on the frames of that video
alone, at a low learning rate, and starts from MODEL again for every video. Every number of steps is a run of
its own. Seconds are those of tuning (with decoding) and of tracking.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from colortrack_benchmarks.protocols import davis
from fiftyone_colortrack.datasets.davis import DavisSequence, read_davis
from fiftyone_colortrack.terminal import console, score_table
from fiftyone_colortrack.training import RECIPES, TrainingData, fit

HELD_OUT = (
    "breakdance-flare",
    "bus",
    "dog-agility",
    "drift-turn",
    "flamingo",
    "lucia",
    "motorbike",
    "soccerball",
)


def main() -> None:
    arguments = parse()
    rows: dict[str, dict[str, float]] = {}
    for sequence in read_davis(arguments.root, sequences=arguments.sequences):
        rows[sequence.name] = row = {}
        for steps in arguments.steps:
            with tempfile.TemporaryDirectory() as folder:
                start = time.monotonic()
                model = adapt(sequence, steps, Path(folder), arguments) if steps else arguments.model
                tuned = time.monotonic()
                result = davis(
                    arguments.root,
                    sequences=[sequence.name],
                    model=str(model),
                    max_frames=arguments.max_frames,
                )
            row[f"J&F, {steps} steps"] = result.mean["J&F"]
            row[f"tuning s, {steps}"] = tuned - start
            row[f"tracking s, {steps}"] = time.monotonic() - tuned
        console.print(f"{sequence.name}: {json.dumps(row)}", highlight=False, soft_wrap=True)
    columns = next(iter(rows.values()))
    rows["mean"] = {column: float(np.mean([row[column] for row in rows.values()])) for column in columns}
    console.print(score_table(f"{arguments.model}, learning rate {arguments.rate:g}", rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="DAVIS folder with the held-out sequences")
    parser.add_argument("--sequences", nargs="+", default=HELD_OUT)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 50, 150])
    parser.add_argument("--max-frames", type=int, help="of each sequence, for tuning and tracking")
    parser.add_argument("--pairs", type=int, default=3, help="of each kind in a batch")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--model", default="fast", help="to start from")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def adapt(sequence: DavisSequence, steps: int, folder: Path, arguments: argparse.Namespace) -> Path:
    """Weights tuned on the frames of a sequence."""
    pairs = arguments.pairs
    recipe = replace(
        RECIPES["fast"],
        frame_pairs=pairs,
        view_pairs=pairs,
        crops=(128,),
        learning_rate=arguments.rate,
        warm_up=max(1, steps // 10),
    )
    data = TrainingData.collect([sequence.frames[: arguments.max_frames]])
    return fit(data, steps=steps, out_dir=folder, init=arguments.model, recipe=recipe).weights


if __name__ == "__main__":
    main()
