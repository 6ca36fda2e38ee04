"""Count the source by folder: files, lines, median and longest file, share of import lines.

``python tests/support/source_size.py [REVISION ...]`` prints a table for each revision (default: HEAD).
"""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agent", "tools", "graphs", "eval", "evidence", "tui", "tests")


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def import_lines(source):
    """Lines of import statements, those of several lines counted whole."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))
    return sum(node.end_lineno - node.lineno + 1 for node in nodes)


def sizes(revision):
    """By folder: (lines, import lines, path) of each file."""
    found = defaultdict(list)
    for path in _git("ls-tree", "-r", "--name-only", revision).splitlines():
        folder = path.partition("/")[0]
        if path.endswith(".py") and folder in FOLDERS:
            source = _git("show", f"{revision}:{path}")
            found[folder].append((source.count("\n"), import_lines(source), path))
    return found


def main():
    for revision in sys.argv[1:] or ["HEAD"]:
        found = sizes(revision)
        product = [file for folder, files in found.items() if folder != "tests" for file in files]
        print(f"\n| {revision} | files | lines | median | longest | import lines |\n|---|---|---|---|---|---|")
        for folder, files in [*((name, found[name]) for name in FOLDERS if name in found), ("product", product)]:
            lines = [file[0] for file in files]
            longest = max(files)
            share = sum(file[1] for file in files) / max(1, sum(lines))
            print(
                f"| {folder} | {len(files)} | {sum(lines):,} | {median(lines):.0f} | "
                f"{longest[2]} ({longest[0]}) | {share:.1%} |"
            )


if __name__ == "__main__":
    main()
