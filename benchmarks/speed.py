"""Where the time of a frame goes, compared with the plain way to do each step and with the machine's limits.

    python benchmarks/speed.py [--model fast] [--size 480] [--memory 7] [--objects 2] [--repeats 5]

`plain` is the usual way to write a step, timed in the same run: compare ratios, not times. The run stops with an error
if a step that promises the plain result has another one. `of limit` is the least time that a step's multiplications
(GMAC) and bytes could take, at the speeds of one large product and one large copy, as a share of its time. Products
count for the cells within the radius alone. Only the last row needs FiftyOne; it is left out without it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.model.color import rgb_to_lab
from fiftyone_colortrack.model.colorizer import Embedder, Features, frames_to_lab
from fiftyone_colortrack.tracking import Seed, Tracker, TrackerConfig
from fiftyone_colortrack.tracking.affinity import (
    TRUST_RADIUS,
    Matches,
    bf16_products,
    cells_at_once,
    copy_labels,
    open_matches,
    shared,
    top_k_matches,
    trust,
    weighted,
)
from fiftyone_colortrack.tracking.codecs import MaskCodec
from fiftyone_colortrack.tracking.outlines import Outlines
from fiftyone_colortrack.tracking.propagator import (
    DIMENSIONS,
    UNIFORM,
    ColorPropagator,
    Labeled,
)
from fiftyone_colortrack.video import VideoFile, write_video

FRAMES = 24
Work = Callable[[], Any]


class Report:
    """A table of steps, which it times."""

    def __init__(self, repeats: int, device: torch.device) -> None:
        self.repeats, self.device = repeats, device
        side = 8192 if device.type == "cuda" else 2048
        square = torch.rand(side, side, device=device)
        half, copy = square.bfloat16(), torch.empty_like(square)
        product = min(self._milliseconds(partial(torch.mm, m, m), 3) for m in (square, half))
        self._gmac_per_ms = side**3 / 1e9 / product
        self._gb_per_ms = 2 * square.nbytes / 1e9 / self._milliseconds(partial(copy.copy_, square), 3)
        self.table = Table("step", "ms", "plain, ms", "ratio", "GMAC", "GMAC/s", "of limit")
        self.table.caption = (
            f"limits: {1000 * self._gmac_per_ms:.0f} GMAC/s, {1000 * self._gb_per_ms:.0f} GB/s"
        )

    def add(
        self,
        step: str,
        work: Work,
        plain: Work | float = 0,
        gmac: float = 0,
        nbytes: float = 0,
        frames: int = 1,
    ) -> float:
        """Time a step and its plain version, or take the latter's time as given. Returns the plain version's ms."""
        ms = self._milliseconds(work, self.repeats) / frames
        plain_ms = self._milliseconds(plain, max(1, self.repeats // 2)) / frames if callable(plain) else plain
        limit = max(gmac / self._gmac_per_ms, nbytes / 1e9 / self._gb_per_ms)
        compared = (f"{plain_ms:.1f}", f"{plain_ms / ms:.1f} x") if plain_ms else ("", "")
        products = (f"{gmac:.2f}", f"{1000 * gmac / ms:.0f}") if gmac else ("", "")
        self.table.add_row(step, f"{ms:.1f}", *compared, *products, f"{limit / ms:.0%}" if limit else "")
        return plain_ms or ms

    def _milliseconds(self, work: Work, repeats: int) -> float:
        """Median time of some work, after one run that does not count."""
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times[1:])


def plain_matches(
    query: Tensor, keys: Tensor, top_k: int, radius: float, *, whole: int = 0, handicap: float = 0
) -> Matches:
    """Masked full affinity, [hw, T * hw] at once, then top-k."""
    height, width, _ = query.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([y.flatten(), x.flatten()], 1).float().to(query.device)
    outside = (torch.cdist(cells, cells) > radius)[:, None]  # [hw, 1, hw]
    products = (query.flatten(0, 1) @ keys.flatten(0, 2).T).unflatten(1, (len(keys), -1))  # [hw, T, hw]
    products[:, :whole] -= handicap * outside
    products[:, whole:].masked_fill_(outside, -torch.inf)
    return Matches(*products.flatten(1).topk(top_k, 1))


def plain_copy(matches: Matches, labels: Tensor, temperature: float) -> Tensor:
    """Copy labels as the formula says: gather, weigh, sum."""
    weights = (matches.similarity / temperature).softmax(1)  # [N, k]
    return (weights[..., None] * labels[matches.cell]).sum(1)


def plain_masks(soft: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Every label at every pixel, then the largest."""
    return F.interpolate(soft.permute(2, 0, 1)[None], size, mode="bilinear")[0].argmax(0).cpu().numpy()


def gmac_of(work: Work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9


def moving_frames(height: int, width: int) -> list[np.ndarray]:
    """A photo under a moving window."""
    from skimage.data import astronaut

    photo = np.pad(astronaut(), ((0, height), (0, width), (0, 0)), "reflect")
    return [np.ascontiguousarray(photo[i : i + height, 3 * i : 3 * i + width]) for i in range(FRAMES)]


def blocks(count: int, height: int, width: int) -> np.ndarray:
    """A mask [H, W] of objects side by side in rows of ten."""
    ids = np.zeros((height, width), np.uint8)
    rows, columns = -(-count // 10), min(count, 10)
    down, across = height // (rows + 1), width // (columns + 1)
    for i in range(count):
        y, x = (i // 10 + 1) * down - down // 2, (i % 10 + 1) * across - across // 2
        ids[y : y + down * 2 // 3, x : x + across * 2 // 3] = i + 1
    return ids


@torch.inference_mode()
def add_steps(
    report: Report, model: Embedder, frames: Sequence[np.ndarray], ids: np.ndarray, memory: int
) -> None:
    """The steps from one frame's pixels to its masks, at detail `standard`."""
    device, size = report.device, frames[0].shape[:2]
    config = TrackerConfig(memory=memory, labeled=1, input_size=size[0])
    propagator = ColorPropagator(model, config)
    grid = propagator.grid(size)
    rgb = torch.from_numpy(frames[0]).permute(2, 0, 1)[None].to(device)
    lab = frames_to_lab(rgb)
    assert_close(lab, rgb_to_lab(rgb / 255), atol=5e-3, rtol=0)
    report.add(
        "Lab colors",
        lambda: frames_to_lab(rgb),
        lambda: rgb_to_lab(rgb / 255),
        nbytes=rgb.nbytes + lab.nbytes,
    )
    lab = F.pad(lab, (0, -size[1] % model.stride, 0, -size[0] % model.stride), mode="replicate")
    lab = lab.contiguous(memory_format=torch.channels_last)
    network = partial(model, lab)
    report.add(
        f"features ({model.name}; plain: float32)", partial(model.describe, lab), network, gmac_of(network)
    )

    before = [propagator.prepare(frame, grid) for frame in frames[: memory + 1]]
    now = propagator.prepare(frames[memory + 1], grid)
    assert now.fine is not None, f"{model.name} has no detail 'standard'"
    report.add("fine features", partial(model.finer, lab, now.coarse), nbytes=lab.nbytes + now.fine.nbytes)
    soft = MaskCodec.create([Seed(0, ids)], grid, device).encode(ids)  # [2h, 2w, L]
    with bf16_products():
        plain_ms = add_matching(report, model, before, now, soft)
    propagator.start([Labeled(before[0], soft)])
    for frame in before[1:]:
        propagator.step(frame)
    report.add("a whole step, for cells near objects", partial(propagator.step, now), plain_ms)

    codec, count = MaskCodec.create([Seed(0, ids)], grid, device), soft.shape[-1] - 1
    report.add(f"decoding {count} masks", partial(codec.decode, soft), partial(plain_masks, soft, size))
    report.add("the same along outlines", lambda: codec.decode(soft, Outlines(frames[0], grid, device)))


def add_matching(
    report: Report, model: Embedder, before: Sequence[Features], now: Features, soft: Tensor
) -> float:
    """The parts of a propagator's step, for all cells. Returns the time of their plain versions."""
    config, temperature, raw = TrackerConfig(), model.temperature, model.lab_channels
    height, width, channels = now.coarse.shape
    cells, radius = height * width, float(config.radius or 0) / model.stride
    last = before[-1].coarse
    plain_ms = 0.0
    if raw:
        plain = partial(plain_matches, now.coarse[..., -raw:], last[None, ..., -raw:], 1, TRUST_RADIUS)
        gmac = cells * pi * TRUST_RADIUS**2 * raw / 1e9
        plain_ms += report.add("trust in raw colors", partial(trust, now.coarse, last, model), plain, gmac)

    searched = torch.stack([frame.coarse[..., -DIMENSIONS:] for frame in (now, *before)]).bfloat16()
    arguments = (searched[0], searched[1:].contiguous(), config.top_k, radius)  # [h, w, D], [T, h, w, D]
    beyond = {"whole": 1, "handicap": float(config.handicap or 0) * temperature}
    search, plain = partial(top_k_matches, *arguments, **beyond), partial(plain_matches, *arguments, **beyond)
    similarity, cell = search()
    assert_close(similarity, plain().similarity, atol=0.01, rtol=0)  # of bf16
    disc = min(pi * radius**2, cells)
    gmac = cells * (len(before) * disc + cells - disc) * searched.shape[-1] / 1e9
    plain_ms += report.add(f"candidate search in {len(before)} frames", search, plain, gmac)

    matches = Matches(similarity.float(), cell)
    pooled = F.avg_pool2d(soft.permute(2, 0, 1)[None], 2)[0]  # L x h x w
    labels = pooled.flatten(1).T.repeat(len(before), 1)  # [T * hw, L]
    copy, plain = (partial(how, matches, labels, temperature) for how in (copy_labels, plain_copy))
    assert_close(copy(), plain(), atol=1e-4, rtol=0)
    plain_ms += report.add("copying labels", copy, plain, nbytes=cell.numel() * (12 + 4 * labels.shape[1]))

    share = F.interpolate(trust(now.coarse, last, model)[0].permute(2, 0, 1)[None], scale_factor=2.0)[0, 0]
    query = weighted(now.fine.float(), share[..., None], model).view(height, 2, width, 2, channels)
    query = query.transpose(1, 2).reshape(cells, 4, channels)
    keys, labels = torch.stack([frame.fine for frame in before]), soft.flatten(0, 1).repeat(len(before), 1)
    spread = F.max_pool2d(pooled, 5, 1, 2) + F.max_pool2d(-pooled, 5, 1, 2)  # largest minus smallest
    border = (spread.amax(0) > UNIFORM).flatten().nonzero()[:, 0]

    @torch.inference_mode()
    def opened(parts: Sequence[Tensor]) -> None:
        for part in parts:
            open_matches(cell[part], query[part], keys, labels, int(config.top_k or 0), temperature)

    some, every = (
        part.split(cells_at_once(cell.device)) for part in (border, torch.arange(cells, device=cell.device))
    )
    plain_ms += report.add(
        f"opening {len(border)} cells (plain: all {cells})",
        lambda: shared(opened, some, cell.device),
        lambda: shared(opened, every, cell.device),
        gmac_of(lambda: opened(some)),
    )
    return plain_ms


def write(ids: np.ndarray) -> None:
    """Cut a frame's masks out as FiftyOne labels, and serialize them as the database does."""
    import fiftyone as fo
    from scipy import ndimage

    boxes = enumerate(ndimage.find_objects(ids), 1)
    detections = [
        fo.Detection(label="object", mask=ids[box] == i, bounding_box=[0, 0, 1, 1]) for i, box in boxes
    ]
    fo.Detections(detections=detections).to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast")
    parser.add_argument("--size", type=int, default=480, help="height of the frames; they are 16:9")
    parser.add_argument("--memory", type=int, default=7, help="frames in memory besides the labeled one")
    parser.add_argument("--objects", type=int, default=2, help="objects of single steps")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    height, width = options.size, options.size * 16 // 9 // 2 * 2
    frames = moving_frames(height, width)
    report = Report(options.repeats, torch.device(options.device))
    report.table.title = f"{width} x {height}, {options.device}, {torch.get_num_threads()} threads"
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, frames, FRAMES)
        report.add(
            "decoding the video (H.264)", lambda: list(VideoFile(video).read(range(FRAMES))), frames=FRAMES
        )
    ids = blocks(options.objects, height, width)
    model = load_model(options.model, options.device)
    add_steps(report, model, frames, ids, options.memory)
    for detail in ("coarse", "standard"):
        config = {"detail": detail, "input_size": options.size, "memory": options.memory}
        for count in (1, 50):
            seed = blocks(count, height, width)
            report.add(
                f"end to end, {detail}, {count} object{'s' if count > 1 else ''}",
                lambda seed=seed, config=config: list(Tracker(frames, seed, model=model, config=config)),
                frames=FRAMES,
            )
    if find_spec("fiftyone"):
        report.add(f"writing {options.objects} labels", lambda: write(ids))
    Console().print(report.table)


if __name__ == "__main__":
    main()
