from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from colortrack_benchmarks import protocols
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.terminal import score_table
from fiftyone_colortrack.tracking import TrackerConfig

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SMALL = TrackerConfig(input_size=96, memory=2)
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the development data beside the project")


@pytest.fixture(scope="module")
def davis_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DAVIS 2016 sequences of a disc over noise: in `still` it stays, in `moving` it moves."""
    root = tmp_path_factory.mktemp("davis")
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 90, (12, 16, 3), np.uint8), (128, 96))
    lines = []
    for name, speed in (("still", 0), ("moving", 6)):
        for part in ("JPEGImages", "Annotations"):
            (root / part / "480p" / name).mkdir(parents=True)
        for t in range(6):
            mask = cv2.circle(np.zeros((96, 128), np.uint8), (40 + speed * t, 50), 22, 255, -1)
            frame = np.where(mask[..., None] > 0, np.array([40, 60, 230], np.uint8), ground)
            paths = [
                f"/{part}/480p/{name}/{t:05}.{end}"
                for part, end in (("JPEGImages", "jpg"), ("Annotations", "png"))
            ]
            cv2.imwrite(f"{root}{paths[0]}", frame)
            cv2.imwrite(f"{root}{paths[1]}", mask)
            lines.append(" ".join(paths))
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "val.txt").write_text("\n".join(lines) + "\n")
    return root


def test_davis(davis_folder, tmp_path):
    heard = []
    identity = protocols.davis(davis_folder, model="identity", progress=lambda *args: heard.append(args))
    assert sorted(identity.sequences) == ["moving", "still"]
    assert [(done, total, text.split(":")[0]) for done, total, text in heard] == [
        (number, 2, name) for number, name in enumerate(identity.sequences, 1)
    ]
    assert identity.sequences["still"]["J&F"] == pytest.approx(100)
    assert identity.sequences["moving"]["J"] < 75
    assert identity.mean["J"] == pytest.approx(np.mean([s["J"] for s in identity.sequences.values()]))

    tracked = protocols.davis(davis_folder, sequences=["moving"], model="lab", max_frames=5, config=SMALL)
    assert set(tracked.sequences) == {"moving"}
    assert tracked.mean["J"] > 85
    assert tracked.mean["fps"] > 0
    assert tracked.mean["peak_rss_mb"] > 50

    tracked.save(tmp_path / "scores.json")
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["model"] == "lab"
    assert saved["sequences"]["moving"]["F"] == tracked.mean["F"]


def test_davis_names_what_is_wrong(davis_folder, tmp_path):
    with pytest.raises(ColorTrackError, match="max_frames is 2"):
        protocols.davis(davis_folder, model="identity", max_frames=2)
    with pytest.raises(ColorTrackError, match="walrus"):
        protocols.davis(davis_folder, model="identity", sequences=["walrus"])
    with pytest.raises(ColorTrackError, match=str(tmp_path)):
        protocols.davis(tmp_path, model="identity")


def test_tables_are_narrow_and_say_which_pck_they_show():
    errors = np.array([[0.05, np.inf]])
    both = protocols._pck([{"legacy": np.where(np.isinf(errors), np.nan, errors), "strict": errors}])
    assert protocols.main_scores("jhmdb", {**both, "fps": 9.5}) == {
        "PCK@0.1 (legacy)": 100,
        "PCK@0.2 (legacy)": 100,
        "PCK@0.1 (strict)": 50,
        "PCK@0.2 (strict)": 50,
        "fps": 9.5,
    }
    strict = protocols._pck([{"strict": errors}])
    assert protocols.main_scores("badja", {**strict, "fps": 9.5})["PCK@0.1 (strict)"] == 50
    longest = {"davis": "paragliding-launch", "jhmdb": "HarryPotter_nm_np1_fr_med_0"}
    for dataset, name in longest.items():
        rows = {name: dict.fromkeys((*protocols.SHOWN[dataset], "fps"), 100.0)}
        assert Console(width=200).measure(score_table("", rows)).maximum <= 100


@needs_shared
def test_jhmdb_identity():
    result = protocols.jhmdb(SHARED / "jhmdb-sample", model="identity")
    (scores,) = result.sequences.values()
    assert scores["PCK@0.1"] == result.mean["PCK@0.1"] == result.mean["strict PCK@0.1"]
    assert 0 < scores["PCK@0.1"] < scores["PCK@0.5"] < 20  # the goalkeeper jumps


@needs_shared
def test_badja_identity():
    result = protocols.badja(
        SHARED / "davis2016-dev", SHARED / "badja-dev", sequences=["dog-agility"], model="identity"
    )
    assert list(result.sequences) == ["dog-agility"]
    assert 0 <= result.mean["PCK@0.1"] < result.mean["PCK@0.2"] < 100
