import numpy as np
import pytest
import torch
from torch import nn

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.latents.memory import code_in_memory, name_in_memory


class Sae(nn.Module):
    def __init__(self, k=2):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 6)
        self.k = k

    def encode(self, values):
        codes = self.linear(values).relu()
        top = codes.topk(self.k)
        return codes, torch.zeros_like(codes).scatter(1, top.indices, top.values)

    def forward(self, values):
        return values


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def test_a_module_a_method_and_a_function_give_the_same_latents():
    sae = Sae()
    due = sae.encode(X)[1].detach()
    for given in (sae, sae.encode, lambda values: sae.encode(values)[1]):
        code = code_in_memory(given, 4)
        assert (code.width, code.units) == (4, 6)
        np.testing.assert_allclose(code.on("cpu").encode(X).detach(), due)
    assert name_in_memory(sae) == name_in_memory(sae.encode) == "memory:Sae"


def test_a_module_is_identified_by_its_tensors_and_what_it_does_and_is_copied():
    sae = Sae()
    code = code_in_memory(sae, 4)
    due = code.encode(X)
    assert code_in_memory(Sae(), 4).identity == code.identity
    assert code_in_memory(Sae(3), 4).identity != code.identity
    with torch.no_grad():
        sae.linear.bias += 1
    assert code_in_memory(sae, 4).identity != code.identity
    torch.testing.assert_close(code.encode(X), due)


@pytest.mark.parametrize(
    ("sae", "said"),
    [
        (3, "int, which has no encode"),
        (Sae(), r"encode of Sae failed.*tokens of the layer have 9 values"),
        (lambda values: values.sum(), r"gave \[\] for 256 tokens"),
    ],
)
def test_what_cannot_encode_the_layers_tokens_is_refused(sae, said):
    with pytest.raises(UsageError, match=said):
        code_in_memory(sae, 9)
