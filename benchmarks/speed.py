"""Where the time of a frame goes: decode, features, affinity, label maps, writing. Compare ratios, not times.

    python benchmarks/speed.py [--model lab] [--size 480] [--contexts 8] [--repeats 5]

The affinity is also compared with a plain masked full affinity: the result must be the same to the last
entry.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.tracking import Seed
from fiftyone_colortrack.tracking.affinity import (
    Matches,
    bf16_products,
    copy_labels,
    rounded,
    top_k_matches,
    trusted,
)
from fiftyone_colortrack.tracking.codecs import MaskCodec
from fiftyone_colortrack.tracking.grid import Grid
from fiftyone_colortrack.tracking.outlines import Outlines
from fiftyone_colortrack.video import VideoFile, write_video

RADIUS, TOP_K = 12, 10


def plain_affinity(query: torch.Tensor, keys: torch.Tensor) -> Matches:
    """Masked full affinity, [hw, T * hw] at once, then top-k: what is usually written."""
    height, width, _ = query.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([y.flatten(), x.flatten()], 1).float().to(query.device)
    outside = torch.cdist(cells, cells) > RADIUS
    products = query.flatten(0, 1) @ keys.flatten(0, 2).T
    products.view(len(cells), len(keys), len(cells)).masked_fill_(outside[:, None], -torch.inf)
    return Matches(*products.topk(TOP_K, 1))


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of some work, after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def moving_frames(count: int, height: int, width: int) -> list[np.ndarray]:
    """Frames of a photograph under a moving window."""
    from skimage.data import astronaut

    photograph = np.pad(astronaut(), ((0, height), (0, width), (0, 0)), "reflect")
    return [np.ascontiguousarray(photograph[i : i + height, 3 * i : 3 * i + width]) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast")
    parser.add_argument("--size", type=int, default=480, help="height of the frames; they are 16:9")
    parser.add_argument("--contexts", type=int, default=8, help="frames in memory")
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    height, width = arguments.size, arguments.size * 16 // 9 // 2 * 2
    model = load_model(arguments.model, arguments.device)
    grid = Grid.fit((height, width), arguments.size, model.stride)
    frames = moving_frames(24, height, width)
    batch = torch.from_numpy(frames[0]).permute(2, 0, 1)[None]
    rows: dict[str, float] = {}

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, frames, 24)
        decode = milliseconds(lambda: list(VideoFile(video).read(range(24))), arguments.repeats)
        rows["decode (H.264)"] = decode / 24
    rows[f"features ({model.name}, {model.dim} channels)"] = milliseconds(
        lambda: model.embed(batch), arguments.repeats
    )

    if model.lab_channels:
        first, second = (
            model.embed(torch.from_numpy(frame).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
            for frame in frames[:2]
        )
        rows["weighing raw colours"] = milliseconds(lambda: trusted(second, first, model), arguments.repeats)

    generator = torch.Generator().manual_seed(0)
    rows |= affinity_rows(grid, model.dim, arguments.contexts, arguments.device, arguments.repeats, generator)
    if model.dim != 256:
        rows |= affinity_rows(grid, 256, arguments.contexts, arguments.device, arguments.repeats, generator)

    ids = np.zeros((height, width), np.uint8)
    for i in range(arguments.objects):
        ids[
            height // 4 : height // 2, width * i // arguments.objects : width * (i + 1) // arguments.objects
        ] = i + 1
    codec = MaskCodec.create([Seed(0, ids)], grid, torch.device(arguments.device))
    soft = codec.encode(ids)
    cells = grid.cells[0] * grid.cells[1]
    matches = Matches(
        torch.rand(cells, TOP_K).to(arguments.device),
        torch.randint(arguments.contexts * cells, (cells, TOP_K)).to(arguments.device),
    )
    labels = torch.rand(arguments.contexts * cells, codec.depth).to(arguments.device)
    rows[f"copying {arguments.objects} labels"] = milliseconds(
        lambda: copy_labels(matches, labels, 0.07), arguments.repeats
    )
    rows[f"up-sampling {arguments.objects} labels"] = milliseconds(
        lambda: codec.decode(soft), arguments.repeats
    )
    device = torch.device(arguments.device)
    rows["the same along outlines"] = milliseconds(
        lambda: codec.decode(soft, Outlines(frames[0], grid, device)), arguments.repeats
    )
    rows[f"writing {arguments.objects} labels"] = writing(ids, arguments.repeats)

    table = Table("step", "ms per frame", title=f"{width} x {height}, {arguments.device}")
    for name, value in rows.items():
        table.add_row(name, f"{value:.1f}")
    Console().print(table)


def affinity_rows(
    grid: Grid, dim: int, contexts: int, device: str, repeats: int, generator: torch.Generator
) -> dict[str, float]:
    """Times of the tiled and of the plain affinity on random features; fails if their results differ."""
    shape = (contexts + 1, *grid.cells, dim)
    features = rounded(F.normalize(torch.randn(shape, generator=generator), dim=-1)).to(device)
    query, keys = features[0], features[1:].contiguous()

    def as_tracked() -> Matches:
        with bf16_products():
            return top_k_matches(query, keys, TOP_K, RADIUS)

    tiled, plain = as_tracked(), plain_affinity(query, keys)
    same = (tiled.similarity - plain.similarity).abs().max() < 1e-5
    # Products that agree to the last digit but one may swap places.
    swapped = (tiled.cell != plain.cell) & ((tiled.similarity - plain.similarity).abs() > 1e-6)
    if not same or swapped.any():
        raise SystemExit("the tiled affinity differs from the plain one")
    title = f"{dim} channels, {contexts} contexts"
    fast = milliseconds(as_tracked, repeats)
    slow = milliseconds(lambda: plain_affinity(query, keys), max(1, repeats // 2))
    return {f"affinity ({title})": fast, f"plain affinity ({title}), {slow / fast:.1f} x": slow}


def writing(ids: np.ndarray, repeats: int) -> float:
    """Cutting a frame's masks out as FiftyOne labels and serializing them, as on saving to the database."""
    import fiftyone as fo
    from scipy import ndimage

    def write() -> None:
        detections = []
        for i, box in enumerate(ndimage.find_objects(ids), 1):
            if box is not None:
                detections.append(fo.Detection(label="object", mask=ids[box] == i, bounding_box=[0, 0, 1, 1]))
        fo.Detections(detections=detections).to_dict()

    return milliseconds(write, repeats)


if __name__ == "__main__":
    main()
