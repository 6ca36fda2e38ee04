"""SQL of a store is written in the store, the cache, the doctor and the exchange of bundles, and nowhere else."""

import ast
import re
from pathlib import Path

import line_neurons.tools

ROOT = Path(line_neurons.tools.__file__).resolve().parents[1]
OWNERS = ("tools/store/", "tools/cache/", "tools/doctor/", "eval/exchange/")
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE FROM|PRAGMA|CREATE TABLE|BEGIN IMMEDIATE)\b")


def test_no_other_folder_has_a_statement():
    found = []
    for folder in ("agent", "tools", "graphs", "eval", "tui"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith(OWNERS):
                texts = (
                    node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
                )
                found += [f"{name}: {text:.60}" for text in texts if isinstance(text, str) and SQL.match(text)]
    assert found == []
