"""Frame n is frame n: videos with every feature and many combinations, compared with OpenCV and FFmpeg."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
from dataclasses import astuple, dataclass, fields, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from fiftyone_colortrack.video import VideoFile

FFMPEG = shutil.which("ffmpeg")
LENGTH = 24
HEIGHT, WIDTH = 48, 64
TIMES = [0, 1, 2, 7, 8, 30, 31, 33, *range(40, 40 + LENGTH - 8)]
RANDOM_ROWS = 400


@dataclass(frozen=True)
class Features:
    """One row of the table: the features of a video."""

    container: str = "mp4"
    codec: str = "libx264"
    gop: int = 10
    b_frames: int = 0
    encoding: str = ""
    hidden: int = 0  # frames that the edit list hides
    offset: int = 0  # time of the first frame, in frames
    variable: bool = False
    turns: int = 0  # quarter turns counterclockwise that a player makes
    mirrored: bool = False
    odd: bool = False
    picture: str = ""
    cut: bool = False

    def __str__(self) -> str:
        changed = zip(fields(self), astuple(self), astuple(Features()), strict=True)
        return " ".join(f"{f.name}={value}" for f, value, plain in changed if value != plain) or "plain"


TABLE: dict[str, list] = {
    "container": ["mp4", "mov", "mkv", "webm", "avi", "ts", "mpg", "h264"],
    "codec": ["libx264", "mpeg4", "mpeg2video", "mjpeg", "libvpx", "libvpx-vp9", "ffv1"],
    "gop": [10, 1, 1000],
    "b_frames": [0, 3],
    "encoding": ["", "open_gop", "intra_refresh", "interlaced", "fragmented"],
    "hidden": [0, 6, 11],
    "offset": [0, 7],
    "variable": [False, True],
    "turns": [0, 1, 2, 3],
    "mirrored": [False, True],
    "odd": [False, True],
    "picture": ["", "cover", "first"],
    "cut": [False, True],
}
CODECS = {  # those other than libx264 that each container holds
    "mp4": {"mpeg4", "mpeg2video", "mjpeg", "libvpx-vp9"},
    "mov": {"mpeg4", "mjpeg", "mpeg2video"},
    "mkv": {"mpeg4", "mpeg2video", "mjpeg", "libvpx", "libvpx-vp9", "ffv1"},
    "webm": {"libvpx", "libvpx-vp9"},
    "avi": {"mpeg4", "mpeg2video", "mjpeg", "ffv1"},
    "ts": {"mpeg2video"},
    "mpg": {"mpeg2video"},
    "h264": set(),
}


def is_possible(row: Features) -> bool:
    """Whether such a video exists and can be made with PyAV."""
    x264, mp4 = row.codec == "libx264", row.container in ("mp4", "mov")
    return (
        (row.codec in CODECS[row.container] or (x264 and row.container not in ("webm", "mpg")))
        and (not row.b_frames or row.codec in ("libx264", "mpeg4", "mpeg2video"))
        and (not row.encoding or x264)
        and (row.encoding != "open_gop" or row.b_frames > 0)
        and (row.encoding != "intra_refresh" or row.b_frames == 0)
        and (row.encoding != "fragmented" or (mp4 and not row.hidden and not row.picture))
        and (not row.hidden or (mp4 and not row.offset and row.encoding != "intra_refresh"))
        and (row.hidden < LENGTH // 3 or not row.cut)
        and (not row.offset or row.container in ("mp4", "mov", "mkv", "ts"))
        and (not row.variable or row.container in ("mp4", "mov", "mkv", "webm", "ts"))
        and (not (row.turns or row.mirrored) or mp4)
        and (not row.odd or (row.codec not in ("mpeg2video", "libvpx") and row.encoding != "interlaced"))
        and (not row.picture or row.container in ("mp4", "mov", "mkv"))
        and (row.picture != "cover" or row.container != "mkv")
        and (row.picture != "first" or row.codec != "mjpeg")
    )


def rows_with(*names: str) -> list[Features]:
    """The rows in which only these features differ from a plain video, and what they need."""
    rows = [Features()]
    for name in names:
        rows = [replace(row, **{name: value}) for row in rows for value in TABLE[name][1:]]
    return [row for row in map(_completed, rows) if is_possible(row)]


def _completed(row: Features) -> Features:
    if row.encoding == "open_gop":
        row = replace(row, b_frames=3)
    if row.container in ("webm", "mpg") and row.codec == "libx264":
        row = replace(row, codec={"webm": "libvpx-vp9", "mpg": "mpeg2video"}[row.container])
    if row.codec not in (*CODECS[row.container], "libx264"):
        row = replace(row, container="mkv")
    return row


def random_rows(count: int) -> list[Features]:
    rng, rows = random.Random(0), []
    while len(rows) < count:
        row = Features(**{name: rng.choice([values[0], *values]) for name, values in TABLE.items()})
        rows += [row] if is_possible(row) else []
    return rows


ORDINARY = [Features(), *(row for name in TABLE for row in rows_with(name))]
SOAK = [row for pair in combinations(TABLE, 2) for row in rows_with(*pair)] + random_rows(RANDOM_ROWS)
ROWS = [
    *(pytest.param(row, id=str(row)) for row in dict.fromkeys(ORDINARY)),
    *(
        pytest.param(row, id=str(row), marks=pytest.mark.soak)
        for row in dict.fromkeys(SOAK)
        if row not in ORDINARY
    ),
]


def draw_number(i: int, odd: bool) -> np.ndarray:
    """A noisy frame whose upper blocks are the bits of its number."""
    frame = np.random.default_rng(i).integers(0, 255, (HEIGHT + odd, WIDTH + odd, 3), np.uint8)
    for bit in range(8):
        frame[:16, 8 * bit : 8 * bit + 8] = 235 if i >> bit & 1 else 20
    return frame


def read_number(frame: np.ndarray) -> int:
    return sum(1 << bit for bit in range(8) if frame[4:12, 8 * bit + 2 : 8 * bit + 6].mean() > 128)


def make_video(path: Path, row: Features) -> Path:
    """Write numbered frames so that a player shows them upright."""
    options = {"avoid_negative_ts": "disabled" if row.hidden else "auto"}
    if row.container in ("mp4", "mov") and row.cut:
        options["movflags"] = "+faststart"
    if row.encoding == "fragmented":
        options["movflags"] = "+frag_keyframe+empty_moov+default_base_moof"
    times = TIMES if row.variable else list(range(LENGTH))
    times = [time - times[row.hidden] + row.offset for time in times]
    with av.open(str(path), "w", options=options) as container:
        picture = _add_picture(container, Disposition.default) if row.picture == "first" else None
        stream = _add_stream(container, row)
        if row.picture == "cover":
            picture = _add_picture(container, Disposition.attached_pic)
        if picture:
            gray = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 200, np.uint8), "rgb24")
            container.mux([*picture.encode(gray), *picture.encode()])
        for i, time in enumerate(times):
            upright = draw_number(i, row.odd)
            stored = np.rot90(upright[:, ::-1] if row.mirrored else upright, -row.turns)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if row.cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def _add_stream(container: av.container.OutputContainer, row: Features) -> av.VideoStream:
    options = {"g": str(row.gop)}
    if row.codec == "libx264":
        x264 = {"open_gop": ":open-gop=1", "intra_refresh": ":intra-refresh=1"}.get(row.encoding, "")
        options |= {"x264-params": "scenecut=0" + x264, "preset": "veryfast", "bf": str(row.b_frames)}
    elif row.b_frames:
        options["bf"] = str(row.b_frames)
    if row.encoding == "interlaced":
        options["flags"] = "+ilme+ildct"
    if row.codec.startswith("libvpx"):
        options |= {
            "deadline": "realtime",
            "cpu-used": "8",
            "b": "1M",
            "auto-alt-ref": "1",
            "lag-in-frames": "8",
        }
    stream = container.add_stream(row.codec, rate=25, options=options)
    height, width = HEIGHT + row.odd, WIDTH + row.odd
    stream.height, stream.width = (width, height) if row.turns % 2 else (height, width)
    whole_chroma = row.codec == "ffv1" or (row.codec == "libx264" and row.odd)
    stream.pix_fmt = "yuv444p" if whole_chroma else "yuvj420p" if row.codec == "mjpeg" else "yuv420p"
    if row.turns or row.mirrored:
        a, b, c, d = 1, 0, 0, 1  # a stored pixel (x, y) is shown at (a x + c y, b x + d y)
        for _ in range(row.turns):
            a, b, c, d = b, -a, d, -c
        if row.mirrored:
            a, c = -a, -c
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
    return stream


def _add_picture(container: av.container.OutputContainer, disposition: Disposition) -> av.VideoStream:
    stream = container.add_stream("mjpeg", rate=25)
    stream.height, stream.width, stream.pix_fmt, stream.disposition = 96, 96, "yuvj420p", disposition
    return stream


def read_with_opencv(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (result := capture.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def read_with_ffmpeg(path: Path, height: int, width: int, *, second_stream: bool) -> np.ndarray:
    command = [FFMPEG, "-v", "error", "-i", path, "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    command += ["-map", "0:1"] if second_stream else []  # else FFmpeg prefers the larger frames
    output = subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(output, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize("row", ROWS)
def test_frame_n_is_frame_n(row: Features, tmp_path: Path) -> None:
    if (row.turns or row.mirrored) and not hasattr(av.VideoStream, "set_display_matrix"):
        pytest.skip("this PyAV cannot write display matrices")
    path = make_video(tmp_path / f"video.{row.container}", row)
    video = VideoFile(path)
    frames = list(video.read(range(len(video))))
    numbers = [read_number(frame) for frame in frames]
    assert (video.height, video.width) == (HEIGHT + row.odd, WIDTH + row.odd) == frames[0].shape[:2]
    # Where the file is cut, the last packet gives something, and up to three B-frames refer to it.
    intact = max(1, len(numbers) - 4) if row.cut else LENGTH - row.hidden
    assert numbers[:intact] == list(range(row.hidden, row.hidden + intact))
    assert row.cut or len(numbers) == intact
    backwards = [read_number(frame) for frame in video.read(range(len(video) - 1, -1, -1))][::-1]
    assert backwards[:intact] == numbers[:intact]
    assert len(backwards) == len(numbers)
    for i in (intact // 2, intact - 1):
        assert [read_number(frame) for frame in video.read(range(i, i + 1))] == [numbers[i]]
    # OpenCV does not mirror, does not read interlaced frames, and may show a picture instead of the video.
    if not (row.mirrored or row.encoding == "interlaced" or row.picture == "first"):
        shown = [read_number(frame) for frame in read_with_opencv(path)]
        assert shown[:intact] == numbers[:intact]
        assert row.cut or len(shown) == len(numbers)
    if FFMPEG:
        frames = read_with_ffmpeg(path, video.height, video.width, second_stream=row.picture == "first")
        shown = [read_number(frame) for frame in frames]
        assert shown[:intact] == numbers[:intact]
        assert abs(len(shown) - len(numbers)) <= row.cut


SHOW = """async ([data, count, blocks]) => {
    const video = document.createElement('video');
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    video.muted = true;
    video.src = URL.createObjectURL(new Blob([bytes], {type: 'video/mp4'}));
    await new Promise((resolve, reject) => {
        video.onloadeddata = resolve;
        video.onerror = () => reject(video.error.message);
    });
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext('2d', {willReadFrequently: true}), numbers = [];
    for (let i = 0; i < count; i++) {
        const shown = new Promise((resolve) => {
            video.requestVideoFrameCallback(resolve);
            setTimeout(resolve, 2000);
        });
        video.currentTime = (i + 0.5) / 25;
        await shown;
        context.drawImage(video, 0, 0);
        const bits = blocks.map((x, bit) => (context.getImageData(x, 8, 1, 1).data[1] > 128) << bit);
        numbers.push(bits.reduce((sum, bit) => sum + bit));
    }
    return [video.videoHeight, video.videoWidth, numbers];
}"""


@pytest.mark.soak
def test_chromium_shows_the_same_frames(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    rows = [
        Features(b_frames=3, hidden=6),
        Features(b_frames=3),
        Features(gop=1000, hidden=11, turns=1),
        Features(turns=3, mirrored=True),
        Features(mirrored=True, picture="cover"),
        Features(codec="libvpx-vp9"),
    ]
    with playwright.sync_playwright() as browsers:
        page = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        for row in rows:
            path = make_video(tmp_path / f"video.{row.container}", row)
            video = VideoFile(path)
            expected = [read_number(frame) for frame in video.read(range(len(video)))]
            data = base64.b64encode(path.read_bytes()).decode()
            shown = page.evaluate(SHOW, [data, len(video), [8 * bit + 4 for bit in range(8)]])
            assert shown == [video.height, video.width, expected], row
