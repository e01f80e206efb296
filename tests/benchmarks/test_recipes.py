from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import recipes
from fiftyone_colortrack.training import RECIPES


@pytest.mark.parametrize("name", recipes.VARIANTS)
def test_a_variant_changes_what_recipes_have(name: str) -> None:
    changes = {key: value for key, value in recipes.VARIANTS[name].items() if key != "steps"}
    replace(RECIPES["fast"], **changes)  # raises on a field that does not exist
