"""Count lines of code without blank lines, comments, and docstrings: `python scripts/count_code.py [FOLDER]`."""

from __future__ import annotations

import ast
import sys
import tokenize
from collections import Counter
from pathlib import Path

SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
SKIPPED |= {tokenize.ENCODING, tokenize.ENDMARKER}


def count_code(path: Path) -> int:
    """The number of lines of a Python file that hold code."""
    source = path.read_text(encoding="utf-8")
    with path.open("rb") as file:
        lines = {
            line
            for token in tokenize.tokenize(file.readline)
            if token.type not in SKIPPED
            for line in range(token.start[0], token.end[0] + 1)
        }
    for node in ast.walk(ast.parse(source)):
        # Docstrings, and strings below an assignment that document it.
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "fiftyone_colortrack")
    rooms: Counter[str] = Counter()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        rooms[parts[0] if len(parts) > 1 else "."] += count_code(path)
    for room, lines in sorted(rooms.items()):
        print(f"{lines:6,}  {room}")
    print(f"{sum(rooms.values()):6,}  in all")


if __name__ == "__main__":
    main()
