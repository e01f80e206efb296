"""Top-k affinity between the cells of a frame and the cells of earlier frames, and what is copied along it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fiftyone_colortrack.model.colorizer import Embedder

T = TypeVar("T")
TILE = 12  # side of a tile of queries, in cells
TRUST_RADIUS = 6  # cells within which the last frame's colors should be found again
TRUST_WINDOW = 5  # side of the window of cells over which trust is averaged
TILES_AT_ONCE = 64  # whose products a GPU holds at once
CHUNKS = 16  # a row of products is searched for its maxima in this many interleaved parts
MARGIN = 1  # fine cells around a coarse match that are candidates as well

_PRECISION = threading.Lock()  # of the process: trackers in several threads would undo each other's setting


class Matches(NamedTuple):
    """The best matches of each of N cells.

    Attributes:
        similarity: [N, k] in descending order, -inf where there are fewer than k cells to choose from
        cell: [N, k] positions in the flattened keys, t * h * w + y * w + x
    """

    similarity: Tensor
    cell: Tensor


def top_k_matches(
    query: Tensor,
    keys: Tensor,
    top_k: int | None,
    radius: float | None,
    *,
    whole: int = 0,
    handicap: float = 0.0,
    wanted: Tensor | None = None,
) -> Matches:
    """Find the best matches of every cell: within a disc around it, and anywhere in the first `whole` frames.

    The full affinity is never built. A square tile of queries is multiplied with the window of keys that their
    discs reach, and with all cells of the first frames; then the best are selected. The result is exact.

    Args:
        query: features of one frame, [h, w, C]
        keys: features of the frames to copy from, [T, h, w, C]
        top_k: matches per cell, over all T frames together; None keeps every cell
        radius: of the disc, in cells; None searches whole frames
        whole: how many of the first frames are searched beyond the disc as well
        handicap: taken from the similarity of matches beyond the disc
        wanted: bool [h, w], cells whose matches are wanted; others may be left at -inf

    Returns:
        matches of the h * w cells in row-major order
    """
    height, width, channels = query.shape
    frames = keys.shape[0]
    if radius is None:
        similarity = query.flatten(0, 1) @ keys.flatten(0, 2).T  # [hw, Thw]
        return Matches(*largest(similarity, min(top_k or similarity.shape[1], similarity.shape[1])))

    halo = int(radius)
    largest_window = frames * min(TILE + 2 * halo, height) * min(TILE + 2 * halo, width)
    k = min(top_k or largest_window, largest_window)
    everywhere = keys[:whole].flatten(0, 2).T  # [C, whole * hw]

    def with_far(near: Matches, tile: Tensor, y: Tensor, x: Tensor, out: Tensor | None = None) -> Matches:
        """The best of matches within the disc, and of matches in whole frames, of queries `tile` [n, C] at y, x [n]."""
        if not whole:
            return near
        values, position = largest(torch.mm(tile, everywhere, out=out), min(k, everywhere.shape[1]))
        # What lies within the disc was found before, without a handicap. It takes no place from anything here:
        # whatever it displaces is less similar still.
        at = position % (height * width)
        inside = (at // width - y[:, None]) ** 2 + (at % width - x[:, None]) ** 2 <= radius**2
        values = (values - handicap).masked_fill_(inside, -torch.inf)
        values, position = torch.cat([near.similarity, values], 1), torch.cat([near.cell, position], 1)
        values, order = values.topk(min(k, values.shape[1]), 1)
        return Matches(values, position.gather(1, order))

    if wants_large_kernels(query.device):
        near = search_all_tiles(query, keys, k, radius)
        y, x = _positions(0, height, 0, width, query.device)
        return with_far(near, query.flatten(0, 1), y.flatten(), x.flatten())

    similarity = query.new_full((height, width, k), -torch.inf)
    cell = torch.zeros(height, width, k, dtype=torch.long)
    outside = _outside_disc(TILE, halo, radius, query.device).to(query.dtype)
    tiles = [
        (y, x)
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
        if wanted is None or wanted[y : y + TILE, x : x + TILE].any()
    ]

    @torch.inference_mode()
    def search(tiles: Sequence[tuple[int, int]]) -> None:
        # Buffers that every tile reuses: allocating them again costs more than the products.
        window_buffer = query.new_empty(largest_window * channels)
        product_buffer = query.new_empty(TILE**2 * max(largest_window, everywhere.shape[1]))
        for y0, x0 in tiles:
            y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
            top, bottom = max(y0 - halo, 0), min(y1 + halo, height)
            left, right = max(x0 - halo, 0), min(x1 + halo, width)
            tile = query[y0:y1, x0:x1].flatten(0, 1)  # [n, C]
            window = _packed(keys[:, top:bottom, left:right], window_buffer).flatten(0, 2)  # [Tm, C]
            offset_y, offset_x = top - y0 + halo, left - x0 + halo
            barrier = outside[
                : y1 - y0, : x1 - x0, offset_y : offset_y + bottom - top, offset_x : offset_x + right - left
            ].flatten(2)  # [rows, columns, m]
            products = product_buffer[: len(tile) * len(window)].view(len(tile), len(window))
            torch.mm(tile, window.T, out=products)
            products.view(y1 - y0, x1 - x0, frames, -1).add_(barrier[:, :, None])
            values, position = largest(products, min(k, len(window)))
            position = _to_frame(position, (bottom - top, right - left), (top, left), (height, width))
            y, x = _positions(y0, y1, x0, x1, query.device)
            products = product_buffer[: len(tile) * everywhere.shape[1]].view(len(tile), -1)
            best = with_far(Matches(values, position), tile, y.flatten(), x.flatten(), products)
            found = best.cell.shape[1]
            similarity[y0:y1, x0:x1, :found] = best.similarity.view(y1 - y0, x1 - x0, found)
            cell[y0:y1, x0:x1, :found] = best.cell.view(y1 - y0, x1 - x0, found)

    shared(search, tiles, query.device)
    return Matches(similarity.flatten(0, 1), cell.flatten(0, 1))


def search_all_tiles(query: Tensor, keys: Tensor, k: int, radius: float) -> Matches:
    """The matches within the disc that `top_k_matches` finds, in a few large products, as a GPU needs them.

    Args:
        query: [h, w, C]
        keys: [T, h, w, C]
        k: matches per cell, -inf where there are fewer
        radius: of the disc, in cells
    """
    height, width, channels = query.shape
    frames, halo = keys.shape[0], int(radius)
    side = TILE + 2 * halo
    below, beside = -height % TILE, -width % TILE
    columns = (width + beside) // TILE
    tiles = F.pad(query, (0, 0, 0, beside, 0, below)).unflatten(0, (-1, TILE)).unflatten(2, (-1, TILE))
    tiles = tiles.transpose(1, 2).flatten(0, 1).flatten(1, 2)  # [N, TILE TILE, C]
    padded = F.pad(keys, (0, 0, halo, halo + beside, halo, halo + below))
    windows = padded.unfold(1, side, TILE).unfold(2, side, TILE)  # [T, rows, columns, C, side, side]
    windows = windows.permute(1, 2, 0, 4, 5, 3).flatten(0, 1)  # [N, T, side, side, C]
    there = F.pad(query.new_zeros(height, width), (halo, halo + beside, halo, halo + below), value=-torch.inf)
    there = there.unfold(0, side, TILE).unfold(1, side, TILE).flatten(0, 1)  # [N, side, side]
    outside = _outside_disc(TILE, halo, radius, query.device).to(query.dtype)
    barrier = (outside + there[:, None, None]).view(len(there), TILE**2, 1, -1)
    similarity, cell = [], []
    for start in range(0, len(tiles), TILES_AT_ONCE):
        part = slice(start, start + TILES_AT_ONCE)
        products = torch.bmm(
            tiles[part], windows[part].reshape(-1, frames * side**2, channels).transpose(1, 2)
        )
        products = (products.unflatten(2, (frames, -1)) + barrier[part]).flatten(
            2
        )  # [n, TILE TILE, T side side]
        values, position = largest(products.flatten(0, 1), k)
        index = torch.arange(start, start + len(products), device=query.device).repeat_interleave(TILE**2)
        corner = (index // columns * TILE - halo)[:, None], (index % columns * TILE - halo)[:, None]
        similarity.append(values)
        cell.append(_to_frame(position, (side, side), corner, (height, width)))

    def by_row(parts: list[Tensor]) -> Tensor:
        """[N TILE TILE, k] in the order of tiles -> [h w, k] in that of rows."""
        by_tile = torch.cat(parts).view(-1, columns, TILE, TILE, k).transpose(1, 2)
        return by_tile.flatten(2, 3).flatten(0, 1)[:height, :width].flatten(0, 1)

    values, cells = by_row(similarity), by_row(cell)
    return Matches(values, cells.masked_fill(values == -torch.inf, 0))


def compare_again(
    matches: Matches, query: Tensor, keys: Tensor, top_k: int, penalty: Tensor | None = None
) -> Matches:
    """The best of some matches that were found with less precision, by their exact similarity.

    Args:
        matches: of n cells
        query: features of the n cells, [n, C]
        keys: features of all cells that the matches point to, [T * h * w, C]
        top_k: matches per cell to keep
        penalty: [n, k] taken from the similarities
    """
    similarity = torch.empty_like(matches.similarity, dtype=query.dtype)

    @torch.inference_mode()
    def work(parts: Sequence[slice]) -> None:
        for part in parts:
            candidates = rows_of(keys, matches.cell[part]).to(query.dtype)  # [m, k, C]
            torch.bmm(candidates, query[part, :, None], out=similarity[part, :, None])

    step = cells_at_once(query.device)
    shared(work, [slice(start, start + step) for start in range(0, len(query), step)], query.device)
    if penalty is not None:
        similarity -= penalty
    similarity.masked_fill_(matches.similarity == -torch.inf, -torch.inf)
    best, order = similarity.topk(min(top_k, similarity.shape[1]), 1)
    return Matches(best, matches.cell.gather(1, order))


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """`values[rows]` of values [N, C], several times as fast on a CPU."""
    return F.embedding(rows, values)


def wants_large_kernels(device: torch.device) -> bool:
    """Whether few large operations are best, as on a GPU; a CPU prefers parts that fit into its caches."""
    return device.type != "cpu"


def cells_at_once(device: torch.device) -> int:
    """The number of cells whose candidates' features fit into a core's cache, or do not strain a GPU's memory."""
    return 4096 if wants_large_kernels(device) else 64


def shared(work: Callable[[Sequence[T]], None], items: Sequence[T], device: torch.device) -> None:
    """Do some work on items, on a CPU with one thread to a share of the items.

    If all threads work on every small operation instead, they wait for each other at each, which takes several
    times as long while other programs use the same cores.
    """
    if wants_large_kernels(device):
        work(items)
        return
    count = torch.get_num_threads()
    list(_threads(count, os.getpid()).map(work, [items[i::count] for i in range(count)]))


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads whose operations run on one core each; a forked process needs its own."""
    pool = ThreadPoolExecutor(count, "colortrack-affinity", initializer=_use_one_core)
    all_started = threading.Barrier(count)
    list(pool.map(lambda _: all_started.wait(), range(count)))
    torch.set_num_threads(count)  # what a thread sets becomes the default of all later ones
    return pool


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread's first question sets it to the default of that moment


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values.topk(k)` along the last of two axes, faster on long rows, and as exact.

    A row is cut into interleaved chunks; its k largest values are in the k chunks with the largest maxima, so
    that only those are searched.
    """
    rows, length = values.shape
    chunks = length // CHUNKS
    if chunks <= 4 * k:
        return values.topk(k, dim=1)
    body = values[:, : chunks * CHUNKS].unflatten(1, (CHUNKS, chunks))  # [rows, CHUNKS, chunks]
    best = body.amax(1).topk(k, dim=1, sorted=False).indices  # [rows, k]
    steps = torch.arange(CHUNKS, device=values.device) * chunks
    candidates = (best[:, :, None] + steps).flatten(1)  # [rows, k * CHUNKS]
    rest = torch.arange(chunks * CHUNKS, length, device=values.device).expand(rows, -1)
    candidates = torch.cat([candidates, rest], 1)
    top, position = values.gather(1, candidates).topk(k, dim=1)
    return top, candidates.gather(1, position)


def rounded(features: Tensor) -> Tensor:
    """Features in the precision of bf16, whose products in `bf16_products` are exact."""
    return features.bfloat16().to(features.dtype)


@contextmanager
def bf16_products() -> Iterator[None]:
    """Multiply in bf16 and sum in float32 where the processor is fast at that, as with Intel's AMX.

    `torch.set_float32_matmul_precision` holds for the process, so it is set back.
    """
    with _PRECISION:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def trust(query: Tensor, last: Tensor, embedder: Embedder) -> tuple[Tensor, Tensor]:
    """How much the raw colors of each cell count: less where they are not found again in the last frame.

    A cell whose best match is at cosine distance d is trusted by min(1, tolerance / d): a local scaling of
    similarities (Zelnik-Manor and Perona 2004, section 2). One cell alone tells little, so that its raw channels keep
    the square of the mean trust of the cells around it.

    Args:
        query: features of one frame, [h, w, C]
        last: features of the frame before it, [h, w, C]
        embedder: that made them

    Returns:
        the shares [h, w, 1] in (0, 1], and the cells [h * w] of the last frame in which colors were found
    """
    size = query.shape[:2]
    if not embedder.lab_channels:
        return query.new_ones(*size, 1), torch.arange(size[0] * size[1], device=query.device)
    raw, before = (features[..., -embedder.lab_channels :] for features in (query, last))
    found = top_k_matches(raw, before[None], 1, TRUST_RADIUS)
    distance = (1 - found.similarity / embedder.lab_weight).clamp(min=1e-6).view(*size, 1)
    share = (embedder.lab_tolerance / distance).clamp(max=1).permute(2, 0, 1)  # 1 x h x w
    share = F.avg_pool2d(share, TRUST_WINDOW, 1, TRUST_WINDOW // 2, count_include_pad=False).square()
    return share.permute(1, 2, 0), found.cell[:, 0]


def weighted(features: Tensor, trust: Tensor, embedder: Embedder) -> Tensor:
    """Features [..., C] whose raw channels count as `trust` [..., 1] says."""
    if not embedder.lab_channels:
        return features
    learned = features.shape[-1] - embedder.lab_channels
    return torch.cat([features[..., :learned], features[..., learned:] * trust.to(features.dtype)], -1)


def copy_labels(matches: Matches, labels: Tensor, temperature: float) -> Tensor:
    """Copy labels along the affinity: y_j = sum_i softmax_i(f_i . f_j / T) c_i (Vondrick et al. 2018, eq. 1).

    Args:
        matches: of N cells
        labels: [T * h * w, L] labels of the cells that the matches point to
        temperature: T

    Returns:
        [N, L] labels, a convex combination of the copied ones
    """
    weights = (matches.similarity / temperature).softmax(1)
    return F.embedding_bag(matches.cell, labels, per_sample_weights=weights, mode="sum")


def open_matches(
    coarse: Tensor, query: Tensor, keys: Tensor, labels: Tensor, top_k: int, temperature: float
) -> Tensor:
    """Copy labels to the four fine cells of some coarse cells, from fine cells around their coarse matches.

    The candidates of a coarse cell are the 2 x 2 fine cells of each of its matches, with a margin of `MARGIN`
    around them. Each of its own four cells copies from the best `top_k` candidates.

    Args:
        coarse: [n, k] coarse matches of n cells: positions in [T, h, w]; repeated ones count once
        query: [n, 4, C] features of the four fine cells of each
        keys: [T, 2h, 2w, C] features of the fine cells to copy from
        labels: [T * 2h * 2w, L] their labels
        top_k: matches per fine cell
        temperature: of the softmax over the matches

    Returns:
        [n, 4, L]
    """
    height, width, channels = keys.shape[1:]
    offsets = torch.arange(-MARGIN, 2 + MARGIN, device=keys.device)
    columns = width // 2
    x, rest = coarse % columns, coarse // columns
    y, frame = rest % (height // 2), rest // (height // 2)
    rows = (2 * y[..., None] + offsets).clamp(0, height - 1)  # [n, k, 4]
    across = (2 * x[..., None] + offsets).clamp(0, width - 1)
    cell = (frame[..., None, None] * height + rows[..., None]) * width + across[..., None, :]  # [n, k, 4, 4]
    cell = cell.flatten(1).sort(1).values  # [n, 16 k]
    # The blocks of neighboring matches overlap. Each cell counts once; repetitions go to the end, and are cut off
    # as far as every row has some.
    repeated = F.pad(cell[:, 1:] == cell[:, :-1], (1, 0))
    repeated, order = repeated.byte().sort(dim=1, stable=True)
    kept = int((repeated == 0).sum(1).max())
    cell, repeated = cell.gather(1, order)[:, :kept], repeated[:, :kept].bool()
    candidates = rows_of(keys.view(-1, channels), cell).to(query.dtype)  # [n, m, C]
    similarity = torch.bmm(query, candidates.transpose(1, 2)).float()  # [n, 4, m]
    similarity.masked_fill_(repeated[:, None], -torch.inf)
    best, position = similarity.topk(min(top_k, similarity.shape[2]), 2)
    cell = cell[:, None].expand(-1, 4, -1).gather(2, position)
    matches = Matches(best.flatten(0, 1), cell.flatten(0, 1))
    return copy_labels(matches, labels, temperature).unflatten(0, (-1, 4))


def _positions(y0: int, y1: int, x0: int, x1: int, device: torch.device) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(
        torch.arange(y0, y1, device=device), torch.arange(x0, x1, device=device), indexing="ij"
    )
    return y, x


def _packed(part: Tensor, buffer: Tensor) -> Tensor:
    """A contiguous copy of a view, in a buffer."""
    return buffer[: part.numel()].view(part.shape).copy_(part)


def _outside_disc(tile: int, halo: int, radius: float, device: torch.device) -> Tensor:
    """-inf where a key is outside a query's disc, else 0: [tile, tile, tile + 2 halo, tile + 2 halo]."""
    query = torch.arange(tile, device=device)
    key = torch.arange(-halo, tile + halo, device=device)
    squared = (query[:, None] - key) ** 2  # [tile, tile + 2 halo]
    distance = squared[:, None, :, None] + squared[None, :, None, :]
    return torch.zeros_like(distance, dtype=torch.float32).masked_fill_(distance > radius**2, -torch.inf)


def _to_frame(
    position: Tensor,
    window: tuple[int, int],
    corner: tuple[int, int] | tuple[Tensor, Tensor],
    size: tuple[int, int],
) -> Tensor:
    """Positions within the windows of all frames -> positions within the whole frames."""
    rows, columns = window
    frame = position // (rows * columns)
    cell = position - frame * (rows * columns)
    y = cell // columns
    x = cell - y * columns
    return frame * (size[0] * size[1]) + (y + corner[0]) * size[1] + x + corner[1]
