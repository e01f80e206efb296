import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import fiftyone_colortrack as ct

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
NAMES = [*MANIFEST["operators"], *MANIFEST["panels"]]

DISCOVER = """
import json, sys
from fiftyone.operators.registry import OperatorRegistry

registry = OperatorRegistry()
names = [op.name for op in registry.list_operators() if op.plugin_name == sys.argv[1]]
copies = [name for name in sys.modules if name.endswith("fiftyone_colortrack.plugin")]
print(json.dumps([names, registry.list_errors(), "torch" in sys.modules, copies]))
"""


@pytest.fixture(scope="module")
def discovered(database, tmp_path_factory):
    """What FiftyOne finds, in a process of its own, where the plugin is a link in the folder of plugins."""
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "colortrack").symlink_to(ROOT)
    result = subprocess.run(
        [sys.executable, "-c", DISCOVER, MANIFEST["name"]],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins)},
        cwd=plugins,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def test_fiftyone_finds_every_operator_and_panel_without_errors(discovered):
    names, errors, _, copies = discovered
    assert errors == []
    assert sorted(names) == sorted(NAMES)
    assert copies == ["fiftyone_colortrack.plugin"]


def test_registering_does_not_import_torch(discovered):
    assert discovered[2] is False


def test_the_manifest_names_the_classes_and_the_version():
    from fiftyone_colortrack.plugin import CLASSES

    assert [cls().config.name for cls in CLASSES] == NAMES
    assert str(MANIFEST["version"]) == ct.__version__


def test_requirements_are_those_of_the_package():
    tomllib = pytest.importorskip("tomllib", reason="in the standard library since Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (ROOT / "requirements.txt").read_text().splitlines() == project["dependencies"]


def test_what_the_package_imports_is_declared():
    tomllib = pytest.importorskip("tomllib", reason="in the standard library since Python 3.11")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.split(r"[<>=]", line)[0].lower() for line in dependencies}
    code = "\n".join(path.read_text() for path in (ROOT / "fiftyone_colortrack").rglob("*.py"))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", code, re.MULTILINE))
    brings = packages_distributions()
    foreign = imported & brings.keys() - {"fiftyone_colortrack"}
    unnamed = {name for name in foreign if not declared & {brought.lower() for brought in brings[name]}}
    assert unnamed - {"trackeval"} == {"cv2", "ray"}  # FiftyOne's own OpenCV; the others are extras


def test_skills_are_found(database):
    from fiftyone.plugins.skills import list_skills

    (skill,) = list_skills(plugin=MANIFEST["name"])
    assert skill.name == "label-propagation"
    assert "propagate" in skill.description


def test_operators_have_descriptions_icons_and_a_risk_level():
    from fiftyone.operators import PanelConfig
    from fiftyone.operators.types import RiskLevel

    from fiftyone_colortrack.plugin import CLASSES

    for config in (cls().config for cls in CLASSES):
        if isinstance(config, PanelConfig):
            assert config.help_markdown
            assert config.icon
            continue
        assert config.description
        assert config.risk_level in (RiskLevel.LOW, RiskLevel.MEDIUM)
        assert config.unlisted or (ROOT / config.icon.lstrip("/")).is_file()


def test_the_public_names_are_all_there():
    for name in ct.__all__:
        assert getattr(ct, name) is not None
    assert set(ct.__all__) <= set(dir(ct))
    with pytest.raises(AttributeError, match="nothing"):
        ct.nothing  # noqa: B018


def test_importing_the_package_imports_neither_torch_nor_fiftyone():
    code = "import sys, fiftyone_colortrack; print({'torch', 'fiftyone'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "set()"
