import subprocess
import sys

MODULES = [
    "video",
    "metrics",
    *(f"datasets.{name}" for name in ["davis", "download", "jhmdb", "kinetics"]),
]


def test_reading_needs_neither_fiftyone_nor_torch() -> None:
    imports = "; ".join(f"import fiftyone_colortrack.{name}" for name in MODULES)
    code = f"import sys; {imports}; print(*({{'fiftyone', 'torch'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
