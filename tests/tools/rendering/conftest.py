"""A small pack of models, and one with a panorama that can be rendered."""

from pathlib import Path

import pytest

from line_neurons.tools.rendering.catalogue import ModelRecord
from support.model_pack import records, write_pack, write_renderable_pack


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def models(pack: Path) -> dict[str, ModelRecord]:
    return records(pack)


@pytest.fixture(scope="session")
def renderable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_renderable_pack(tmp_path_factory.mktemp("renderable"))
