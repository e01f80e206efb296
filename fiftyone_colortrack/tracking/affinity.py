"""Exact top-k affinity between the cells of a frame and the cells near them in other frames."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fiftyone_colortrack.model.colorizer import Embedder

TILE = 12  # side of a query tile; with radius 12 a third of each tile's products is inside the disc
TRUST_RADIUS = 6  # cells within which the last frame's colours should be found again
CHUNKS = 16  # a row of products is searched for its maxima in this many interleaved parts


_PRECISION = threading.Lock()  # trackers in several threads would put back each other's setting


class Matches(NamedTuple):
    """The best matches of each of N query cells.

    Attributes:
        similarity: [N, k] dot products in descending order, -inf where the window holds fewer than k cells
        cell: [N, k] where the matches are in the flattened keys, t * h * w + y * w + x
    """

    similarity: Tensor
    cell: Tensor


def top_k_matches(query: Tensor, keys: Tensor, top_k: int | None, radius: float | None) -> Matches:
    """Find the best matches of every cell among the cells of all key frames within a disc around it.

    The full affinity is never built: square tiles of queries are multiplied with the window of keys that
    their discs can reach, one product and one selection a tile. The result is exact.

    Args:
        query: features of one frame, [h, w, C]
        keys: features of the frames to copy from, [T, h, w, C]
        top_k: matches per cell, over all T frames together; None keeps every cell of the window
        radius: of the disc, in cells; None looks at the whole frames

    Returns:
        matches of the h * w cells in row-major order
    """
    height, width, _ = query.shape
    frames = keys.shape[0]
    if radius is None:
        similarity = query.flatten(0, 1) @ keys.flatten(0, 2).T  # [hw, Thw]
        return Matches(*largest(similarity, min(top_k or similarity.shape[1], similarity.shape[1])))

    halo = int(radius)
    largest_window = frames * min(TILE + 2 * halo, height) * min(TILE + 2 * halo, width)
    k = min(top_k or largest_window, largest_window)
    similarity = query.new_full((height, width, k), -torch.inf)
    cell = torch.zeros(height, width, k, dtype=torch.long, device=query.device)
    outside = _outside_disc(TILE, halo, radius, query.device)
    tiles = [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]

    @torch.inference_mode()
    def search(tiles: Sequence[tuple[int, int]]) -> None:
        # Buffers that every tile reuses: to give memory back and take it anew costs more than the products.
        window_buffer = query.new_empty(largest_window * query.shape[2])
        product_buffer = query.new_empty(TILE**2 * largest_window)
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
            found = min(k, len(window))
            values, position = largest(products, found)
            position = _to_frame(position, (bottom - top, right - left), (top, left), (height, width))
            similarity[y0:y1, x0:x1, :found] = values.view(y1 - y0, x1 - x0, found)
            cell[y0:y1, x0:x1, :found] = position.view(y1 - y0, x1 - x0, found)

    if query.device.type == "cpu":
        # One thread to a tile, not all threads to every operation of a tile: they meet once a frame, which
        # is what counts where other programs use the same cores.
        count = torch.get_num_threads()
        list(_threads(count, os.getpid()).map(search, [tiles[i::count] for i in range(count)]))
    else:
        search(tiles)
    return Matches(similarity.flatten(0, 1), cell.flatten(0, 1))


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads whose operations run on one core each; a forked process needs its own."""
    pool = ThreadPoolExecutor(count, "colortrack-affinity", initializer=_use_one_core)
    all_started = threading.Barrier(count)
    list(pool.map(lambda _: all_started.wait(), range(count)))
    torch.set_num_threads(count)  # what a thread sets is the default of all later ones as well
    return pool


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread's first question sets it to the default of that moment


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values.topk(k)` along the last of two axes, faster on long rows, and as exact.

    A row is cut into interleaved chunks; its k largest values lie in the k chunks with the largest maxima, so
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
    """Features in the precision of bf16, of which `bf16_products` are exact."""
    return features.bfloat16().to(features.dtype)


@contextmanager
def bf16_products() -> Iterator[None]:
    """Multiplies in bf16 and sums in float32 where the processor is fast at that, as with Intel's AMX.

    `torch.set_float32_matmul_precision` is the process'; it is put back.
    """
    with _PRECISION:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def trusted(query: Tensor, last: Tensor, embedder: Embedder) -> Tensor:
    """Lower the weight of raw colours in cells that they do not find again: there the network decides.

    A cell whose best match in the last frame is at cosine distance d keeps min(1, tolerance / d) of its raw
    channels: a local scaling of similarities (Zelnik-Manor and Perona 2004, section 2).

    Args:
        query: features of one frame, [h, w, C]
        last: features of the frame before it, [h, w, C]
        embedder: that made them

    Returns:
        features to match the memory with, [h, w, C]
    """
    if not embedder.lab_channels:
        return query
    learned, raw = query.split([query.shape[2] - embedder.lab_channels, embedder.lab_channels], 2)
    found = top_k_matches(raw, last[None, ..., -embedder.lab_channels :], 1, TRUST_RADIUS).similarity
    distance = (1 - found / embedder.lab_weight).clamp(min=1e-6).view(*query.shape[:2], 1)
    return torch.cat([learned, raw * (embedder.lab_tolerance / distance).clamp(max=1)], 2)


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


def _packed(part: Tensor, buffer: Tensor) -> Tensor:
    """A contiguous copy of a view, in a buffer."""
    return buffer[: part.numel()].view(part.shape).copy_(part)


def _outside_disc(tile: int, halo: int, radius: float, device: torch.device) -> Tensor:
    """-inf where a key lies outside a query's disc, else 0: [tile, tile, tile + 2 halo, tile + 2 halo]."""
    query = torch.arange(tile, device=device)
    key = torch.arange(-halo, tile + halo, device=device)
    squared = (query[:, None] - key) ** 2  # [tile, tile + 2 halo]
    distance = squared[:, None, :, None] + squared[None, :, None, :]
    return torch.zeros_like(distance, dtype=torch.float32).masked_fill_(distance > radius**2, -torch.inf)


def _to_frame(
    position: Tensor, window: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Positions within the windows of all frames -> positions within the whole frames."""
    rows, columns = window
    frame = position // (rows * columns)
    cell = position - frame * (rows * columns)
    y = cell // columns
    x = cell - y * columns
    return frame * (size[0] * size[1]) + (y + corner[0]) * size[1] + x + corner[1]
