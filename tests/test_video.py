import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_colortrack import video
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import (
    ArrayFrames,
    ImageSequence,
    VideoFile,
    VideoWriter,
    is_hidden,
    natural_key,
    open_frames,
    plays_in_browser,
    probe,
    write_video,
)


def numbered_frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames whose gray level tells their number, with a dark left upper quarter."""
    frames = [np.full((height, width, 3), 40 + 5 * i, np.uint8) for i in range(count)]
    for frame in frames:
        frame[: height // 2, : width // 2] = 10
    return frames


def numbers(frames: Iterator[np.ndarray] | list[np.ndarray]) -> list[int]:
    return [round((float(f[-8:, -8:].mean()) - 40) / 5) for f in frames]


def encode(
    path: Path, frames: list[np.ndarray], codec="libx264", pts=None, rotation=0, pixels="yuv420p", **options
) -> Path:
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"} if pts else {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixels
        if rotation:
            stream.set_display_rotation(rotation)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            if pts:
                picture.pts, picture.time_base = pts[i], Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_written_video_reads_back(tmp_path: Path) -> None:
    frames = numbered_frames(30)
    info = write_video(tmp_path / "new" / "v.mp4", frames, 29.97)
    assert info == probe(tmp_path / "new" / "v.mp4")
    assert (info.width, info.height, info.frame_count, info.codec) == (64, 48, 30, "h264")
    assert info.frame_rate == pytest.approx(29.97, abs=1e-3)
    read = VideoFile(tmp_path / "new" / "v.mp4")
    assert len(read) == 30
    assert read.warnings == []
    error = np.abs(np.stack(list(read.read(range(30)))).astype(int) - np.stack(frames))
    assert error.mean() < 1.5
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["v.mp4"]


def test_colors_survive(tmp_path: Path) -> None:
    frame = np.zeros((48, 96, 3), np.uint8)
    frame[:, :32], frame[:, 32:64], frame[:, 64:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    write_video(tmp_path / "v.mp4", [frame], 10)
    read = next(VideoFile(tmp_path / "v.mp4").read(range(1)))
    assert np.abs(read[:, [16, 48, 80]].astype(int) - frame[:, [16, 48, 80]]).max() <= 4


CONTAINERS = [
    ("v.mp4", "libx264", {"bf": "3", "g": "10"}),
    ("open_gop.mp4", "libx264", {"bf": "3", "g": "10", "x264-params": "open-gop=1"}),
    ("one_key.mp4", "libx264", {"g": "1000"}),
    ("v.ts", "libx264", {"bf": "3", "g": "10"}),
    ("v.mkv", "libx264", {"bf": "3", "g": "10"}),
    ("v.avi", "mpeg4", {"g": "10", "qmin": "1", "qmax": "2"}),
    ("v.avi", "mjpeg", {}),
    ("v.h264", "libx264", {"bf": "3", "g": "10"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS)
@pytest.mark.parametrize("buffer", [1, 3 * 48 * 64 * 4, 2**27])
def test_every_container_reads_both_ways(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    options: dict[str, str],
    buffer: int,
) -> None:
    monkeypatch.setattr(video, "REVERSE_BUFFER_BYTES", buffer)
    frames = VideoFile(encode(tmp_path / name, numbered_frames(33), codec, **options))
    assert len(frames) == 33
    for wanted in (
        range(33),
        range(32, -1, -1),
        range(13, 17),
        range(31, 2, -1),
        range(30, 3, -7),
        range(9, 30, 6),
    ):
        assert numbers(frames.read(wanted)) == list(wanted)
    assert probe(tmp_path / name).frame_count == 33


def test_variable_frame_rate_counts_every_frame_once(tmp_path: Path) -> None:
    frames = VideoFile(encode(tmp_path / "v.mp4", numbered_frames(8), pts=[0, 1, 5, 6, 30, 31, 90, 92]))
    assert numbers(frames.read(range(8))) == list(range(8))
    assert numbers(frames.read(range(7, -1, -1))) == list(range(7, -1, -1))
    (warning,) = frames.warnings
    assert "frame rate varies" in warning


def test_late_start_is_said(tmp_path: Path) -> None:
    frames = VideoFile(encode(tmp_path / "v.mp4", numbered_frames(8), pts=range(5, 13)))
    assert numbers(frames.read(range(8))) == list(range(8))
    (warning,) = frames.warnings
    assert "begins late" in warning


def test_palettes(tmp_path: Path) -> None:
    """They are stored once, at the start of a file."""
    frames = VideoFile(encode(tmp_path / "v.mov", numbered_frames(8), codec="qtrle", pixels="gray", g="3"))
    assert frames.info.pixel_format == "pal8"
    for wanted in (range(8), range(7, -1, -1), range(4, 5)):
        assert numbers(frames.read(wanted)) == list(wanted)


def test_one_frame_video(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", numbered_frames(1), 25)
    frames = VideoFile(tmp_path / "v.mp4")
    assert len(frames) == 1
    assert numbers(frames.read(range(1))) == numbers(frames.read(range(0, -1, -1))) == [0]
    assert list(frames.read(range(0))) == []


def test_odd_sizes_are_padded_by_repeating_the_edge(tmp_path: Path) -> None:
    frame = np.tile(np.arange(51, dtype=np.uint8)[:, None, None] * 5, (1, 35, 3))
    info = write_video(tmp_path / "v.mp4", [frame] * 3, 25)
    assert (info.height, info.width) == (52, 36)
    read = next(VideoFile(tmp_path / "v.mp4").read(range(1)))
    assert np.abs(read[:51, :35].astype(int) - frame).max() <= 6
    assert np.abs(read[51].astype(int) - frame[50, 0]).max() <= 6


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotation"
)
def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = numbered_frames(3)
    path = encode(tmp_path / "v.mp4", frames, rotation=90)
    info = probe(path)
    assert (info.width, info.height) == (48, 64)
    read = next(VideoFile(path).read(range(1)))
    assert np.abs(read.astype(int) - np.rot90(frames[0])).mean() < 2
    assert next(VideoFile(path).read(range(1), short_side=24)).shape == (32, 24, 3)


def test_file_cut_short(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    write_video(tmp_path / "whole.mp4", noise, 25)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    frames = VideoFile(tmp_path / "cut.mp4")
    assert frames.promised == 40
    assert 20 <= len(frames) < 32
    assert (
        probe(tmp_path / "cut.mp4").frame_count == len(frames) == len(list(frames.read(range(len(frames)))))
    )
    (warning,) = frames.warnings
    assert "40" in warning
    assert str(len(frames)) in warning
    with pytest.raises(ColorTrackError, match=r"frame 39 of .*cut\.mp4 does not exist: it has \d+ frames"):
        list(frames.read(range(40)))


def test_damaged_frame_is_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.avi", numbered_frames(20), "mjpeg")
    data = bytearray(path.read_bytes())
    pictures = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[pictures[12] : pictures[13] - 8] = bytes(pictures[13] - 8 - pictures[12])
    path.write_bytes(data)
    assert numbers(VideoFile(path).read(range(12))) == list(range(12))
    with pytest.raises(ColorTrackError, match=r"frame 12 of .*v\.avi cannot be decoded"):
        list(VideoFile(path).read(range(20)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not a file"), (b"", "cannot be decoded as a video"), (b"no video" * 99, "cannot be decoded")],
)
def test_not_a_video(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "v.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ColorTrackError, match=message):
        probe(path)
    with pytest.raises(ColorTrackError, match=message):
        open_frames(path)


def test_still_image_with_the_name_of_a_video(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        cv2.imwrite(str(tmp_path / f"image{suffix}"), numbered_frames(1)[0])
        path = (tmp_path / f"image{suffix}").rename(tmp_path / f"{suffix[1:]}.mp4")
        with pytest.raises(ColorTrackError, match=rf"{path.name} is a still image"):
            VideoFile(path)


def test_names_that_cannot_be_opened(tmp_path: Path) -> None:
    long = tmp_path / f"{'n' * 300}.mp4"
    with pytest.raises(ColorTrackError, match=r"nnn\.mp4 cannot be opened"):
        VideoFile(long)
    with pytest.raises(ColorTrackError, match=r"cannot write nnn"):
        write_video(long, numbered_frames(1), 25)
    latin = tmp_path / b"caf\xe9.mp4".decode(errors="surrogateescape")
    assert write_video(latin, numbered_frames(2), 25) == VideoFile(latin).info


@pytest.mark.parametrize("hidden", [6, 10, 13])
def test_edit_list(tmp_path: Path, hidden: int) -> None:
    """Clips that were cut without encoding begin at a keyframe (10), or between two."""
    times = [time - hidden for time in range(30)]
    frames = VideoFile(encode(tmp_path / "v.mp4", numbered_frames(30), pts=times, g="10", bf="2"))
    assert (len(frames), frames.info.frame_count, frames.promised) == (30 - hidden, 30 - hidden, 30)
    assert numbers(frames.read(range(30 - hidden))) == list(range(hidden, 30))
    assert numbers(frames.read(range(29 - hidden, -1, -1))) == list(range(29, hidden - 1, -1))
    (warning,) = frames.warnings
    assert f"hides {hidden} of its 30 frames" in warning
    assert "edit list" in warning


def test_concatenated_streams(tmp_path: Path) -> None:
    """The packet at the joint is flagged as corrupt, and time starts again."""
    frames = numbered_frames(40)
    parts = [encode(tmp_path / f"{i}.ts", frames[20 * i : 20 * i + 20], g="10", bf="2") for i in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert numbers(VideoFile(joined).read(range(40))) == list(range(40))
    assert numbers(VideoFile(joined).read(range(39, -1, -1))) == list(range(39, -1, -1))


@pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "add_stream_from_template"), reason="this PyAV is old"
)
def test_times_that_jump_back_where_streams_were_joined(tmp_path: Path) -> None:
    """As FFmpeg joins streams with different clocks: times to decode ascend, times to show do not."""
    path = encode(tmp_path / "v.mp4", numbered_frames(33), g="10", bf="3", **{"x264-params": "scenecut=0"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "joined.mp4"), "w") as joined:
        stream = joined.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        last = packets[-1].dts
        for packet in packets:
            packet.stream = stream
            joined.mux(packet)
        with av.open(str(path)) as again:
            more = [packet for packet in again.demux(video=0) if packet.is_keyframe]
            for i, packet in enumerate(more, 1):
                packet.pts = packet.dts = last + i
                packet.stream = stream
                joined.mux(packet)
    expected = [*range(33), *range(0, 33, 10)]
    frames = VideoFile(tmp_path / "joined.mp4")
    assert numbers(frames.read(range(len(frames)))) == expected
    assert numbers(frames.read(range(len(frames) - 1, -1, -1))) == expected[::-1]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrix(tmp_path: Path, turn: int, mirrored: bool) -> None:
    """The matrix in the track header maps a stored pixel (x, y) to (a x + c y, b x + d y)."""
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    if mirrored:
        a, c = -a, -c
    path = encode(tmp_path / "v.mp4", numbered_frames(2))
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd") + 44
    one = 1 << 16
    data[header : header + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    upright = np.rot90(numbered_frames(1)[0], -turn // 90)  # `turn` is clockwise
    upright = upright[:, ::-1] if mirrored else upright
    frames = VideoFile(path)
    assert (frames.height, frames.width) == upright.shape[:2]
    assert np.abs(next(frames.read(range(1))).astype(int) - upright).mean() < 2
    assert next(frames.read(range(1), short_side=24)).shape[:2] == (
        upright.shape[0] // 2,
        upright.shape[1] // 2,
    )


def test_angle_that_is_not_right_is_ignored_as_in_browsers(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", numbered_frames(1), rotation=30)
    assert np.abs(next(VideoFile(path).read(range(1))).astype(int) - numbered_frames(1)[0]).mean() < 2


def test_browsers_show_what_they_can_decode(tmp_path: Path) -> None:
    frames = numbered_frames(1)
    for name, codec, pixels, plays in [
        ("v.mp4", "libx264", "yuv420p", True),
        ("v.mov", "libx264", "yuv420p", True),
        ("v.webm", "libvpx-vp9", "yuv420p", True),
        ("ten_bits.mp4", "libx264", "yuv420p10le", False),
        ("whole_chroma.mp4", "libx264", "yuv444p", False),
        ("v.mkv", "libx264", "yuv420p", False),
        ("v.avi", "libx264", "yuv420p", False),
        ("old.mp4", "mpeg4", "yuv420p", False),
        ("new.mp4", "libsvtav1", "yuv420p", True),
    ]:
        assert (
            plays_in_browser(VideoFile(encode(tmp_path / name, frames, codec, pixels=pixels)).info) == plays
        )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_frames_are_refused_by_their_header(tmp_path: Path) -> None:
    video = encode(tmp_path / "v.mp4", numbered_frames(1), "mjpeg")
    jpeg = video.read_bytes().replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 12_000, 12_000))
    both = jpeg.replace(struct.pack(">HH", 64, 48), struct.pack(">HH", 12_000, 12_000))
    for data, message in ((both, r"v\.mp4 has 12000 x 12000 pixels"), (jpeg, r"v\.mp4")):
        video.write_bytes(data)
        with pytest.raises(ColorTrackError, match=message):
            VideoFile(video)
    image = tmp_path / "1.png"
    cv2.imwrite(str(image), numbered_frames(1)[0])
    data = bytearray(image.read_bytes())
    data[16:24] = struct.pack(">II", 12_000, 9_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    image.write_bytes(data)
    with pytest.raises(ColorTrackError, match=r"1\.png has 12000 x 9000 pixels"):
        open_frames(tmp_path)


def test_sound_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ColorTrackError, match="no video stream"):
        probe(tmp_path / "a.wav")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", numbered_frames(2), 25)
    before = (tmp_path / "v.mp4").read_bytes()

    def breaks() -> Iterator[np.ndarray]:
        yield from numbered_frames(5)
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_video(tmp_path / "v.mp4", breaks(), 25)
    with pytest.raises(ColorTrackError, match=r"frame 1 is \[10, 10, 3\], but frame 0 is \[48, 64, 3\]"):
        write_video(tmp_path / "v.mp4", [*numbered_frames(1), np.zeros((10, 10, 3), np.uint8)], 25)
    with pytest.raises(ColorTrackError, match="at least one"):
        write_video(tmp_path / "v.mp4", [], 25)
    for rate in (0, -1, 1e-6, 1e6, float("nan"), float("inf")):
        with pytest.raises(ColorTrackError, match="frame rate"):
            write_video(tmp_path / "v.mp4", numbered_frames(1), rate)
    assert (tmp_path / "v.mp4").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_full_or_read_only_disk(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), np.uint8)
    write_video(tmp_path / "whole.mp4", noise, 25)
    size = (tmp_path / "whole.mp4").stat().st_size
    for space in (4096, size // 2, size - 8192, size + 8192):
        folder = small_disk(f"size={space}")
        if space > size:
            write_video(folder / "v.mp4", noise, 25)
            assert len(VideoFile(folder / "v.mp4")) == 20
        else:
            with pytest.raises(ColorTrackError, match=str(folder)):
                write_video(folder / "v.mp4", noise, 25)
            assert list(folder.iterdir()) == []
    folder = small_disk("ro")
    for path in (folder / "v.mp4", folder / "new" / "v.mp4"):
        with pytest.raises(ColorTrackError, match=str(folder)):
            write_video(path, noise, 25)


def write_images(folder: Path, frames: list[np.ndarray]) -> list[Path]:
    paths = [folder / f"{i:05d}.png" for i in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return paths


def test_image_sequence(tmp_path: Path) -> None:
    frames = [f + np.array([0, 3, 9], np.uint8) for f in numbered_frames(5)]
    paths = write_images(tmp_path, frames)
    for source in (paths, [str(p) for p in paths], tmp_path):
        sequence = open_frames(source)
        assert isinstance(sequence, ImageSequence)
        assert np.array_equal(list(sequence.read(range(4, -1, -1))), frames[::-1])
    assert next(sequence.read(range(1), short_side=24)).shape == (24, 32, 3)


def test_numbers_without_leading_zeros_are_read_in_their_order(tmp_path: Path) -> None:
    for i, frame in enumerate(numbered_frames(12), start=1):
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), frame)
    assert numbers(open_frames(tmp_path).read(range(12))) == list(range(12))
    names = ["a", "a1b2", "a1b10", "a2", "a10", "a010", "b"]
    assert sorted(reversed(names), key=natural_key) == ["a", "a1b2", "a1b10", "a2", "a010", "a10", "b"]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    paths = write_images(tmp_path, numbered_frames(3))
    hidden = [tmp_path / name for name in ("._00000.png", ".DS_Store", "Thumbs.db", "desktop.ini")]
    for path in hidden:
        path.write_bytes(b"\0\5\26\7" + bytes(60))
    for source in (tmp_path, [*hidden, *paths]):
        assert numbers(open_frames(source).read(range(2, -1, -1))) == [2, 1, 0]
    for path in paths:
        path.unlink()
    with pytest.raises(ColorTrackError, match=f"{tmp_path.name} contains no images"):
        open_frames(tmp_path)
    assert not is_hidden("/home/me/.cache/v.mp4")


def test_image_sequence_names_the_bad_file(tmp_path: Path) -> None:
    paths = write_images(tmp_path, numbered_frames(4))
    cv2.imwrite(str(paths[1]), np.zeros((20, 30, 3), np.uint8))
    paths[2].write_bytes(b"not an image")
    paths[3].unlink()
    sequence = open_frames(paths)
    for i, message in enumerate(["is 30 x 20, but", "cannot be read as an image", "is not a file"], start=1):
        with pytest.raises(ColorTrackError, match=rf"{paths[i].name} {message}"):
            list(sequence.read(range(i, i + 1)))
    with pytest.raises(ColorTrackError, match="at least one image"):
        open_frames([*tmp_path.glob("*.none")] or ImageSequence([]))


def test_arrays() -> None:
    frames = numbered_frames(5)
    for source in (frames, np.stack(frames), ArrayFrames(frames)):
        assert numbers(open_frames(source).read(range(4, 0, -1))) == [4, 3, 2, 1]
    with pytest.raises(ColorTrackError, match="frame 5 of the array of frames does not exist: it has 5"):
        list(open_frames(frames).read(range(3, 6)))
    with pytest.raises(ColorTrackError, match="frame -1 of"):
        list(open_frames(frames).read(range(2, -2, -1)))
    with pytest.raises(ColorTrackError, match="frame 1 must be uint8 RGB"):
        open_frames([frames[0], frames[1].astype(np.float32)])
    with pytest.raises(ColorTrackError, match="at least one frame"):
        open_frames([])


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1000))
def test_scaled_size(height: int, width: int, short_side: int) -> None:
    h, w = video.scaled_size(height, width, short_side)
    assert min(h, w) == min(height, width, short_side)
    assert abs(max(h, w) - max(height, width) * min(h, w) / min(height, width)) <= 0.5
    assert (h <= w) == (height <= width) or h == w
    assert video.scaled_size(w, h, short_side) == (w, h)


def test_frames_are_written_one_by_one(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 25) as writer:
        for frame in numbered_frames(3):
            writer.write(frame)
        assert not (tmp_path / "v.mp4").exists()
    assert writer.info == probe(tmp_path / "v.mp4")
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "broken.mp4", 25) as writer:
        writer.write(numbered_frames(1)[1 // 0])
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
