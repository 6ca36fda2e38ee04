"""Which autoencoders and directions are refused for a layer, and which runs are marked."""

import re
from dataclasses import replace

import pytest
import torch

from line_neurons.graphs.runs.reconstruction import judge, random_directions
from line_neurons.tools.targets.latents.autoencoder import InputScaling, LatentActivation, SparseAutoencoder
from line_neurons.tools.targets.latents.directions import Directions
from line_neurons.tools.targets.latents.memory import code_in_memory

D, K = 16, 12
REDRAW = torch.Generator().manual_seed(5)


def things():
    """Tokens that are a few of 12 things each, off the origin, and a dictionary of the things."""
    draw = torch.Generator().manual_seed(1)
    dictionary = torch.linalg.qr(torch.randn(D, K, generator=draw))[0].T
    present = (torch.rand(3000, K, generator=draw) < 0.1) * (1 + torch.rand(3000, K, generator=draw))
    return present @ dictionary + 3 + 0.05 * torch.randn(3000, D, generator=draw), dictionary


TOKENS, DICTIONARY = things()


def trained(values=TOKENS, steps=200, latents=K):
    """Return an autoencoder that was trained on tokens."""
    state = {
        "encoder": DICTIONARY[:latents].T.clone(), "bias": torch.zeros(latents),
        "decoder": DICTIONARY[:latents].clone(), "after": values.mean(0),
    }  # fmt: skip
    for tensor in state.values():
        tensor.requires_grad_(True)
    optimiser = torch.optim.Adam(state.values(), lr=0.02)
    for _ in range(steps):
        codes = ((values - state["after"]) @ state["encoder"] + state["bias"]).relu()
        loss = (values - codes @ state["decoder"] - state["after"]).pow(2).sum(1).mean() + 0.02 * codes.sum(
            1
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = {name: tensor.detach() for name, tensor in state.items()}
    return SparseAutoencoder("x.pt", "", activation=LatentActivation("relu"), before=found["after"], **found)


@pytest.fixture(scope="module")
def right():
    return trained()


@pytest.fixture(scope="module")
def scaled():
    """One that was trained on tokens less their mean, divided by their scale."""
    scaling = InputScaling(TOKENS.mean(0), torch.tensor(0.25))
    return replace(trained((TOKENS - scaling.mean) / scaling.scale), scaling=scaling)


def verdict(sae, tokens=TOKENS):
    return judge(sae, tokens, "layer", 64)


def test_one_that_was_trained_on_the_layer_passes(right, scaled):
    for sae in (right, scaled):
        found = verdict(sae)
        assert not found.refused and not found.doubtful, found
        assert re.search(r"explains (0\.9\d|1\.00) of layer on 64 images", found.text)


def test_a_poor_one_is_marked_and_not_refused():
    found = verdict(trained(latents=4))
    assert found.doubtful and not found.refused, found


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda sae: replace(sae, decoder=sae.decoder.roll(5, 0)), "it was not trained on this"),
        (lambda sae: replace(sae, before=None), "with --sae-minus-b-dec it explains 0.9"),
        (
            lambda sae: replace(sae, before=0 * sae.after, after=0 * sae.after),
            "with a b_dec of zeros: check the layer and --tokens; if they are right, with",
        ),
    ],
)
def test_wrong_ones_are_refused_with_the_remedy(right, fault, said):
    found = verdict(fault(right))
    assert found.refused
    text = f"{found.text}: {found.remedy}"
    assert re.search(said, text), text
    assert "insist with --sae-force" in found.remedy and "\n" not in text


def test_one_that_lacks_its_scaling_is_refused(scaled):
    found = verdict(replace(scaled, scaling=None))
    assert found.refused and "--sae-input" in found.remedy


def test_tokens_of_another_layer_are_refused(right):
    other = TOKENS @ torch.linalg.qr(torch.randn(D, D, generator=REDRAW))[0]
    assert verdict(right, other).refused


def test_without_a_decoder_nothing_is_known(right):
    found = verdict(replace(right, decoder=None, after=None, before=None))
    assert found.doubtful and "without a decoder" in found.text


class InMemory:
    """The same autoencoder as an object of the user's."""

    def __init__(self, sae):
        self.sae = sae

    def encode(self, tokens):
        return self.sae.encode(tokens)

    def decode(self, latents):
        return self.sae.decode(latents)


def test_one_in_memory_is_checked_if_it_decodes(right):
    assert not verdict(code_in_memory(InMemory(right), D)).doubtful
    shuffled = replace(right, decoder=right.decoder.roll(5, 0))
    assert verdict(code_in_memory(InMemory(shuffled), D)).refused

    def encode(tokens):
        return right.encode(tokens)

    alone = verdict(code_in_memory(encode, D))
    assert alone.doubtful and "without a decoder" in alone.text
    broken = InMemory(right)
    broken.decode = lambda latents: latents
    found = verdict(code_in_memory(broken, D))
    assert found.doubtful and not found.refused and "gave no tensor" in found.text


def test_a_random_direction_marks_a_run_that_labels_it():
    code = Directions(
        "d.npz",
        torch.eye(2, D),
        torch.zeros(2),
        ["striped", "odd"],
        random={1: "AUC 0.55, random splits up to 0.64"},
    )
    assert random_directions(code, [0]) == ("", False)
    text, doubtful = random_directions(code, [0, 1])
    assert doubtful and text.endswith("a label means nothing: odd (AUC 0.55, random splits up to 0.64)")
