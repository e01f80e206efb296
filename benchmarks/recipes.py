"""What each ingredient of the recipe gives: short runs of equal cost, scored on held-out sequences.

    python benchmarks/recipes.py --videos DIR --images DIR --davis DIR --out DIR [--steps N] [NAME ...]

Runs that are finished are not made again, so that the table can grow. Under `torchrun` several processes
train, each on its share of the pairs, and nothing is scored; run it again alone for that. The network is
scored alone, without the raw Lab that `fast` adds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from colortrack_benchmarks.protocols import davis
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.colorizer import Embedder, FastEmbedder
from fiftyone_colortrack.tracking import TrackerConfig
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
PAIRS = 8  # of both kinds together, in a batch of one step; a walk costs as much as 1.7 pairs
VARIANTS: dict[str, dict[str, Any]] = {
    "mixture": {},
    "mixture with walks": {"frame_pairs": 2, "view_pairs": 2, "walks": 2},
    "gray input": {"gray": True},
    "reconstruction alone": {"frame_pairs": PAIRS, "view_pairs": 0},
    "correspondence alone": {"frame_pairs": 0, "view_pairs": PAIRS},
    "without images": {"images": 0.0},
    "crops of 96": {"crops": (96,), "steps": 1.78},
    "crops of 160": {"crops": (160,), "steps": 0.64},
    "temperature 0.05": {"temperature": 0.05},
    "temperature 0.1": {"temperature": 0.1},
    "no averaged weights": {"ema": 0.0},
    "without cut-outs": {"cutouts": 0.0},
    "harder views": {"rescale": 3.3, "warp": 0.06, "jitter": 1.0},
}


class GrayEmbedder(FastEmbedder):
    """`fast` as it sees what it was trained on without colors."""

    def forward(self, lab: Tensor) -> Tensor:
        return super().forward(lab * lab.new_tensor([1, 0, 0])[:, None, None])


def main() -> None:
    arguments = parse()
    data = TrainingData.collect(
        arguments.videos, arguments.images, exclude=[f"davis_{name}" for name in HELD_OUT]
    )
    names = arguments.names or list(VARIANTS)
    for name in names:
        train(name, data, arguments)
    if "WORLD_SIZE" not in os.environ:
        for name in names:
            score(name, arguments)
        print_table(arguments.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--videos", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--davis", required=True, help="DAVIS folder with the held-out sequences")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="where decoded frames are, if not in OUT")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--max-frames", type=int, default=20, help="of each held-out sequence")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def train(name: str, data: TrainingData, arguments: argparse.Namespace) -> None:
    out = arguments.out / name.replace(" ", "-")
    if (out / "run.json").exists():
        return
    recipe = replace(
        RECIPES["fast"],
        frame_pairs=PAIRS // 2,
        view_pairs=PAIRS // 2,
        walks=0,
        crops=(128,),
        warm_up=30,
        ema=0.98,
    )
    changes = dict(VARIANTS[name])
    steps = round(arguments.steps * changes.pop("steps", 1))
    recipe = replace(recipe, **changes)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    counts = ("frame_pairs", "view_pairs", "walks")
    recipe = replace(recipe, **{count: -(-getattr(recipe, count) // processes) for count in counts})
    result = fit(
        data,
        steps=steps,
        out_dir=out,
        recipe=recipe,
        seed=arguments.seed,
        resume=True,
        cache_dir=arguments.cache or arguments.out / "cache",
    )
    run = {"name": name, "steps": result.steps, "seconds": result.seconds, "losses": result.losses}
    (out / "run.json").write_text(json.dumps(run))


def score(name: str, arguments: argparse.Namespace) -> None:
    out = arguments.out / name.replace(" ", "-")
    if (out / "scores.json").exists():
        return
    start = time.monotonic()
    network: Embedder = load_model(out / "fast.safetensors", lab_weight=0)
    if VARIANTS[name].get("gray"):
        gray = GrayEmbedder(lab_weight=0).to(network.device).eval()
        gray.load_state_dict(network.state_dict())
        network = gray
    config = TrackerConfig(temperature=0.07)
    result = davis(
        arguments.davis, sequences=HELD_OUT, model=network, max_frames=arguments.max_frames, config=config
    )
    result.save(out / "scores.json")
    print(f"{name}: scored in {time.monotonic() - start:.0f} s", flush=True)


def print_table(out: Path) -> None:
    print("| recipe | J&F | J | F | seconds |\n|---|---|---|---|---|")
    for path in sorted(out.glob("*/scores.json")):
        mean = json.loads(path.read_text())["mean"]
        run = json.loads((path.parent / "run.json").read_text())
        numbers = f"{mean['J&F']:.1f} | {mean['J']:.1f} | {mean['F']:.1f} | {run['seconds']:.0f}"
        print(f"| {run['name']} | {numbers} |")


if __name__ == "__main__":
    main()
