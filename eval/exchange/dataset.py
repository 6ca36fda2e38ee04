"""Write a run's images as a data set that ``datasets`` opens: files, a line of metadata for each use, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from line_neurons.agent.text import clean_text, storable_text
from line_neurons.eval.exchange.run_tables import TABLES, image_rows
from line_neurons.eval.exchange.snapshot import Snapshot
from line_neurons.tools.cache.reader import read_image_file

SCHEMA = TABLES["pictures"].schema
MARK = "metadata.jsonl"
"""The file that each such folder has."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


class Counts(NamedTuple):
    """Uses of images that were written, and images that the store had no more."""

    rows: int
    lost: int


def write_dataset(taken: Snapshot, folder: Path, about: Mapping[str, Any]) -> Counts:
    """Fill a folder with the images that units were scored on.

    Args:
        taken: the run.
        folder: an empty folder.
        about: where the run comes from, for ``provenance.json``.

    Raises:
        OSError: it cannot be written.
        StoreError: the store cannot be read.
    """
    here: dict[str, bool] = {}
    count, columns = 0, TABLES["pictures"].columns
    with (folder / MARK).open("w", encoding="ascii", newline="\n") as lines:
        for row in image_rows(taken):
            image = row["picture"]
            if image not in here:
                here[image] = _copied(taken.store, image, folder)
            if here[image]:
                count += 1
                line = {
                    "file_name": _name(image),
                    **{name: _text(row[name]) for name in columns},
                    "schema": SCHEMA,
                }
                lines.write(json.dumps(line) + "\n")
    (folder / "provenance.json").write_text(json.dumps(about, indent=1), "utf-8")
    (folder / "README.md").write_text(_card(taken, count), "utf-8")
    return Counts(count, sum(not there for there in here.values()))


def _text(value: Any) -> Any:
    return storable_text(value) if isinstance(value, str) else value


def _name(image: str) -> str:
    return f"images/{image[:2]}/{image}.png"


def _copied(store: Path, image: str, folder: Path) -> bool:
    content, trouble = read_image_file(store, image)
    if trouble:
        return False
    path = folder / _name(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def _card(taken: Snapshot, count: int) -> str:
    run = taken.run
    model, layer, generator = (
        clean_text(str(text), 300) for text in (run.shown_model, run.layer, run.fingerprints.get("generator"))
    )
    size = next((name for most, name in _SIZES if count < most), "n>1M")
    # JSON is YAML, and quotes whatever a name may hold.
    header = {
        "pretty_name": f"LINE: images of {model} {layer}",
        "tags": ["interpretability", "line-neurons"],
        "task_categories": ["image-feature-extraction"],
        "size_categories": [size],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": ["metadata.jsonl", "images/**"]}]}
        ],
    }
    fields = "\n".join(f"- `{name}`" for name in TABLES["pictures"].columns)
    yaml = "\n".join(f"{name}: {json.dumps(value)}" for name, value in header.items())
    return f"""---
{yaml}
---
# Images that units of a vision model were labelled with

Each row is an image that a unit was scored on in a search by LINE, with the concept that it shows and the unit's
activation; `of_label` says whether it is one of the images of the unit's label. An image that several searches
used has several rows.

- model and layer: `{_code(model)}`, `{_code(layer)}`
- images drawn by: `{_code(generator)}`; its licence is that of the images
- run: `{run.id}`; how it came about is in `provenance.json`
- schema: `{SCHEMA}`

    from datasets import load_dataset
    images = load_dataset("imagefolder", data_dir="THIS FOLDER", split="train")

Columns, besides `image`:

{fields}
"""


def _code(text: str) -> str:
    return text.replace("`", "'")
