"""Autoencoders of a hub on this machine: which files are downloaded, and what is said where none can be."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.latents.files import read_autoencoder
from support.fake_hub import fill_cache, hub_of

OPEN = """
import sys
from line_neurons.agent.errors import LineError
from line_neurons.tools.targets.latents.files import read_autoencoder
for place in sys.argv[2:]:
    try:
        found = read_autoencoder(place, ("W_enc", "encoder.weight"), download=sys.argv[1] == "download")
        print(sorted(found.tensors), found.config.get("layer"))
    except LineError as error:
        print(type(error).__name__, error)
"""


def opened(hub, places, *, download=True, **environment):
    """Open places in a process of its own, as the library reads the address of the hub once; return its lines."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, "download" if download else "stay", *places],
        check=False, env={**hub.environment, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def autoencoders(tmp_path):
    """A repository with autoencoders of two layers, each with its configuration."""
    folder = tmp_path / "served"
    for layer in (3, 7):
        part = folder / f"layer_{layer}"
        part.mkdir(parents=True)
        save_file({"W_enc": torch.full((4, 8), layer), "b_enc": torch.zeros(8)}, part / "sae.safetensors")
        (part / "config.json").write_text(f'{{"layer": {layer}}}')
    (folder / "README.md").write_text("about")
    return folder


def test_a_download_takes_the_file_with_its_configuration_and_no_other(autoencoders, tmp_path):
    one = tmp_path / "one"
    shutil.copytree(autoencoders / "layer_3", one / "only")
    with hub_of({"lab/saes": autoencoders, "lab/one": one}, tmp_path / "home") as hub:
        several, *read = opened(
            hub,
            ["hf:lab/saes", "hf:lab/saes/layer_7", "hf:lab/saes@main/layer_3/sae.safetensors", "hf:lab/one"],
        )
        assert several == (
            "UsageError hf:lab/saes has 2 files: layer_3/sae.safetensors, layer_7/sae.safetensors"
            " (name one: hf:lab/saes/layer_3/sae.safetensors)"
        )
        assert read == [f"['W_enc', 'b_enc'] {layer}" for layer in (7, 3, 3)]
        names = [f"layer_{layer}/{name}" for layer in (3, 7) for name in ("config.json", "sae.safetensors")]
        assert sorted(set(hub.sent)) == [*names, "only/config.json", "only/sae.safetensors"]
        wrong = opened(hub, ["hf:lab/saes/layer_9", "hf:lab/none/ae.pt", "hf:lab/gated", "hf:lab"])
    assert wrong[0].startswith("UsageError lab/saes has no 'layer_9' (name a file or folder of it")
    assert wrong[1].startswith("UsageError the hub has no repository 'lab/none' (owner/name")
    assert wrong[2].startswith("MissingPartError lab/gated is available only after accepting its licence")
    assert wrong[3].startswith("UsageError 'hf:lab' names no repository (hf:OWNER/NAME")
    # Without a network what is here is used.
    for download in (True, False):
        here, absent = opened(
            hub, ["hf:lab/saes/layer_7", "hf:lab/else/ae.pt"], download=download, HF_HUB_OFFLINE="1"
        )
        assert here == "['W_enc', 'b_enc'] 7"
        assert absent.startswith("MissingPartError")
        assert ("check the network" if download else "--download") in absent


def test_what_is_in_the_hubs_cache_is_read_without_a_network(autoencoders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    fill_cache(tmp_path / "cache", "lab/saes", autoencoders)
    anchors = ("W_enc", "encoder.weight")
    assert read_autoencoder("hf:lab/saes/layer_3/", anchors).config == {"layer": 3}
    with pytest.raises(UsageError, match=r"has 2 files.*name one: hf:lab/saes/layer_3/sae\.safetensors"):
        read_autoencoder("hf:lab/saes", anchors)
    with pytest.raises(MissingPartError, match=r"lab/other, which --sae hf:lab/other/ae\.pt needs.*--download"):
        read_autoencoder("hf:lab/other/ae.pt", anchors)
