from pathlib import Path

import pytest
import torch

from support import tiny_pipelines
from support.tiny_pipelines import save


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny pipelines with random weights, by architecture."""
    root = tmp_path_factory.mktemp("tiny")
    made = {name: save(getattr(tiny_pipelines, name)(), root / name) for name in ("sdxl", "sd15", "flux")}
    made["flux-schnell"] = save(tiny_pipelines.flux(guided=False), root / "flux-schnell")
    made["lightning"] = save(tiny_pipelines.sdxl(), root / "lightning")
    for file in tiny_pipelines.LIGHTNING:
        tiny_pipelines.save_denoiser(made["lightning"] / file)
    return made


@pytest.fixture(scope="session")
def sdxl(folders) -> Path:
    return folders["sdxl"]
