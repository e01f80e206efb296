"""The Markdown tables of README and model card, from what `colortrack benchmark … --json FILE` wrote.

    python benchmarks/table.py identity.json lab.json fast.json [--held-out a,b] [--measure J&F]

One column a file. With `--held-out` the mean over these sequences is a row of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--held-out", default="", help="comma-separated names of sequences")
    parser.add_argument("--measure", default="J&F", help="what is listed for each sequence")
    arguments = parser.parse_args()
    results = [json.loads(file.read_text()) for file in arguments.files]
    held_out = [name for name in arguments.held_out.split(",") if name]
    measure = arguments.measure

    print_row([measure, *(f"`{result['model']}`" for result in results)])
    print_row(["---"] * (len(results) + 1))
    names = sorted(results[0]["sequences"], key=lambda name: (name not in held_out, name))
    print_row([f"**mean of {len(names)}**", *scores([result["mean"] for result in results], measure)])
    for other in ("J", "J_recall", "J_decay", "F", "F_recall", "F_decay"):
        if other in results[0]["mean"]:
            print_row([other, *scores([result["mean"] for result in results], other)])
    if held_out:
        means = [mean(result["sequences"][name][measure] for name in held_out) for result in results]
        print_row([f"**mean of the {len(held_out)} held out**", *(f"{value:.1f}" for value in means)])
    for name in names:
        print_row([name, *scores([result["sequences"][name] for result in results], measure)])


def scores(measures: list[dict[str, float]], name: str) -> list[str]:
    return [f"{values[name]:.1f}" for values in measures]


def print_row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
