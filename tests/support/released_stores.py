"""Stores as released versions left them: one run finished, one killed in its second unit (``tests/stores``).

They were written by these versions themselves, with the scripted parts. Of the checkpoints the last is kept; the
bank, which has not changed, is the same for all.
"""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

VERSIONS = ["m001", "m002", "m003"]
FINISHED, KILLED = "model-head-1", "model-head-2"


def old_store(folder, version):
    """Make a folder the store that a version left."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in (
        ("runs", f"{version}-runs"),
        ("checkpoints", f"{version}-checkpoints"),
        ("bank", "bank"),
    ):
        with closing(sqlite3.connect(folder / f"{name}.db")) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript((Path(__file__).parents[1] / "stores" / f"{script}.sql").read_text())
            if name == "bank":
                _draw(folder, db.execute("SELECT image, request, prompt FROM draws").fetchall())
    return folder


def _draw(folder, draws):
    for image, request, prompt in draws:
        asked = json.loads(request)
        content = json.dumps([asked["concept"], asked["seed"], prompt]).encode()
        assert hashlib.sha256(content).hexdigest() == image
        path = folder / "images" / image[:2] / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def dump(path):
    """All that a database holds."""
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())
