from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from fiftyone_colortrack.training import RECIPES

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "recipes.py"
spec = importlib.util.spec_from_file_location("recipes", SCRIPT)
assert spec
assert spec.loader
recipes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipes)


@pytest.mark.parametrize("name", recipes.VARIANTS)
def test_a_variant_changes_what_recipes_have(name: str) -> None:
    changes = {key: value for key, value in recipes.VARIANTS[name].items() if key != "steps"}
    replace(RECIPES["fast"], **changes)  # raises on a field that does not exist
