import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model import list_models, load_model, save_model
from fiftyone_colortrack.model.colorizer import build
from fiftyone_colortrack.model.weights import SHIPPED, _digest, fingerprint, user_models_dir

FRAMES = torch.randint(256, (1, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path))
    torch.manual_seed(0)
    path = user_models_dir() / "mine.safetensors"
    return save_model(build("fast"), path, description="a test", steps=7, temperature=0.05, scores={"J": 0.5})


def test_saved_weights_are_found_by_name_and_by_path(weights: Path) -> None:
    torch.manual_seed(0)
    expected = build("fast").eval().embed(FRAMES)
    for model in (load_model("mine", "cpu"), load_model(weights, "cpu")):
        assert (model.name, model.preset, model.temperature, model.training) == ("mine", "fast", 0.05, False)
        torch.testing.assert_close(model.embed(FRAMES), expected, atol=0.02, rtol=0)
    info = next(info for info in list_models() if info.name == "mine")
    assert (info.preset, info.description, info.path, info.scores) == ("fast", "a test", weights, {"J": 0.5})
    assert info.metadata["steps"] == 7
    assert load_model("mine", "cpu", stride=4).embed(FRAMES).shape[-2:] == (8, 10)


def test_lab_needs_no_weights_and_unknown_names_list_the_known() -> None:
    assert load_model("lab", "cpu").embed(FRAMES).shape == (1, 109, 4, 5)
    with pytest.raises(
        ColorTrackError, match=r"'nothing'; known models: .*lab, .* baselines identity, flow, raft"
    ):
        load_model("nothing")
    with pytest.raises(ColorTrackError, match="cannot read"):
        load_model("/nowhere/absent.safetensors")


def test_a_fingerprint_changes_with_all_that_tracks_depend_on(weights: Path) -> None:
    loaded = load_model("mine", "cpu")
    assert fingerprint("mine") == fingerprint(str(weights)) == fingerprint(loaded)
    assert fingerprint("lab") == fingerprint(load_model("lab", "cpu"))
    options = ({"stride": 4}, {"lab_weight": 0.5}, {"lab_weight": 0}, {"lab_tolerance": 0.1})
    others = [load_model("mine", "cpu", **some) for some in options]
    others += [load_model("lab", "cpu", samples=4), load_model("fast", "cpu"), load_model("paper", "cpu")]
    found = {fingerprint(model) for model in ("lab", "identity", loaded, *others)}
    loaded.temperature = 0.5
    found.add(fingerprint(loaded))
    loaded.project.weight[0] += 1
    found.add(fingerprint(loaded))
    assert len(found) == 3 + len(others) + 2
    save_model(build("fast"), weights)  # trained anew
    assert fingerprint("mine") not in found


def test_weights_are_half_precision(weights: Path) -> None:
    parameters = sum(value.numel() for value in build("fast").state_dict().values())
    assert weights.stat().st_size < 2.1 * parameters + 20_000


@pytest.mark.parametrize("position", [0, 4, 100, -1])
def test_a_damaged_byte_is_noticed(weights: Path, position: int) -> None:
    data = bytearray(weights.read_bytes())
    data[position] ^= 0x15
    weights.write_bytes(data)
    with pytest.raises(ColorTrackError, match=r"damaged|hash|no weights of ColorTrack"):
        load_model(weights)


def test_a_cut_file_is_noticed_and_listed_as_unreadable(weights: Path) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ColorTrackError, match="damaged"):
        load_model("mine")
    weights.write_bytes(data[:5])
    with pytest.raises(ColorTrackError, match="damaged"):
        load_model(weights)
    listed = next(info for info in list_models() if info.name == "mine")
    assert listed.description.startswith("unreadable")


def test_foreign_files_are_refused(weights: Path, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ColorTrackError, match="no weights of ColorTrack"):
        load_model(foreign)
    foreign.write_bytes(b"PK\x03\x04" + bytes(100))  # a pickled checkpoint is a zip file
    with pytest.raises(ColorTrackError, match="not a safetensors file"):
        load_model(foreign)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = save_model(build("fast", channels=32), tmp_path / "small.safetensors")
    with pytest.raises(ColorTrackError, match="does not fit preset 'fast'"):
        load_model(path)
    path = save_model(build("fast", channels=32), tmp_path / "small.safetensors", options={"channels": 32})
    assert load_model(path, lab_weight=0).dim == 32


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = build("fast")
    model.project.weight.data[0] = float("nan")
    with pytest.raises(ColorTrackError, match="not finite"):
        save_model(model, tmp_path / "nan.safetensors")
    assert not list(tmp_path.iterdir())


def test_listing_models_does_not_import_torch() -> None:
    code = "import sys, fiftyone_colortrack.model as m; m.list_models(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["fast", "paper"])
def test_shipped_weights_load_without_network(name: str, tmp_path: Path) -> None:
    code = (
        "import socket, torch\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from fiftyone_colortrack.model import load_model\n"
        f"model = load_model({name!r}, 'cpu')\n"
        "frames = torch.randint(256, (1, 3, 40, 56), dtype=torch.uint8)\n"
        "assert model.embed(frames).shape == (1, model.dim, 5, 7), model.dim\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "FIFTYONE_COLORTRACK_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=environment)
    assert (SHIPPED / f"{name}.safetensors").stat().st_size < 25e6


def with_metadata(path: Path, metadata: object) -> None:
    """Write a weights file whose hash is right, whatever its metadata are."""
    tensors = load_file(path)
    facts = json.dumps(metadata)
    strings = {"format": "fiftyone-colortrack", "sha256": _digest(tensors, facts), "colortrack": facts}
    path.write_bytes(save(tensors, strings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", float("nan")),
        ("temperature", "warm"),
        ("temperature", 10**400),
        ("options", {"lab_weight": 1.0}),
        ("options", {"lab_weight": float("nan")}),
        ("options", {"lab_tolerance": -1}),
        ("options", {"channels": 1e9}),
        ("options", []),
        ("scores", {"J": "high"}),
        ("scores", 7),
        ("description", None),
        ("preset", 3),
        ("seconds_per_step", float("inf")),
    ],
)
def test_bad_metadata_are_refused_and_do_not_stop_the_list(weights: Path, name: str, value: object) -> None:
    with_metadata(weights, {"preset": "fast", "description": "", name: value})
    with pytest.raises(ColorTrackError, match=r"mine\.safetensors has damaged metadata"):
        load_model("mine")
    listed = {info.name: info for info in list_models()}
    assert listed["mine"].description.startswith("unreadable")
    assert load_model("fast", "cpu").name == "fast"


def test_what_is_no_file_does_not_stop_the_list(weights: Path) -> None:
    (weights.parent / "folder.safetensors").mkdir()
    (weights.parent / "._mine.safetensors").write_bytes(b"of a Mac")
    (weights.parent / "gone.safetensors").symlink_to("nowhere")
    names = {info.name for info in list_models()}
    assert names == {"fast", "paper", "lab", "mine", "folder", "gone"}


def test_weights_that_are_not_finite_are_not_loaded(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["project.weight"][0] = float("inf")
    facts = json.dumps({"preset": "fast"})
    strings = {"format": "fiftyone-colortrack", "sha256": _digest(tensors, facts), "colortrack": facts}
    weights.write_bytes(save(tensors, strings))
    with pytest.raises(ColorTrackError, match="not finite"):
        load_model("mine")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ColorTrackError, match=str(tmp_path / "file")):
        save_model(build("fast"), tmp_path / "file" / "mine.safetensors")
