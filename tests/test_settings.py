"""Settings of a shared server."""

import os

import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.settings import check_allowed, check_space


def test_every_folder_is_allowed_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", raising=False)
    assert check_allowed(tmp_path / "x") == (tmp_path / "x").resolve()


def test_only_allowed_folders_can_be_used(tmp_path, monkeypatch):
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        root.mkdir()
    (roots[0] / "link").symlink_to(tmp_path)
    monkeypatch.setenv("FIFTYONE_COLORTRACK_ALLOWED_ROOTS", os.pathsep.join(map(str, roots)))
    assert check_allowed(roots[1] / "deep" / "file.txt")
    for outside in (tmp_path, tmp_path / "c", roots[0] / ".." / "c", roots[0] / "link" / "c"):
        with pytest.raises(ColorTrackError, match=str(roots[0])):
            check_allowed(outside)


def test_a_folder_may_not_outgrow_its_limit(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(bytes(1000))
    monkeypatch.setenv("FIFTYONE_COLORTRACK_MAX_GB", str(2000 / 2**30))
    check_space(tmp_path, 500)
    with pytest.raises(ColorTrackError, match=str(tmp_path)):
        check_space(tmp_path, 1500)


def test_work_that_cannot_fit_on_the_disk_is_refused_before_it_begins(tmp_path):
    with pytest.raises(ColorTrackError, match="free"):
        check_space(tmp_path / "new", 10**18)
