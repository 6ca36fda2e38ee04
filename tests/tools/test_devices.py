import os
import subprocess
import sys

import pytest
import torch

from line_neurons.tools import devices
from line_neurons.tools.devices import deterministic_arithmetic, rows_are_independent
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget


def test_what_fails_leaves_the_switches_as_they_were():
    before = torch.backends.cudnn.deterministic
    with pytest.raises(KeyError), deterministic_arithmetic():
        assert torch.backends.cudnn.deterministic
        raise KeyError
    assert torch.backends.cudnn.deterministic == before


def test_what_sets_a_switch_meanwhile_disturbs_no_later_computation():
    before = torch.backends.cudnn.allow_tf32
    with deterministic_arithmetic():
        torch.backends.cudnn.allow_tf32 = True
        with deterministic_arithmetic():
            assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_torchs_newer_switches_are_restored_too():
    # In a process of its own: once set, they cannot be unset.
    code = """
import torch
from line_neurons.tools.devices import deterministic_arithmetic
conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
conv.fp32_precision = matmul.fp32_precision = "tf32"
with deterministic_arithmetic():
    inside = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
print(*inside, conv.fp32_precision, matmul.fp32_precision)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "highest", "tf32", "tf32"]


@pytest.mark.parametrize("inputs", [6, 768, 1280])
@pytest.mark.parametrize("rows", [2, 5, 15, 25, 245])
def test_equal_rows_of_a_matrix_product_have_the_same_bits(inputs, rows):
    draw = torch.Generator().manual_seed(0)
    row, weights = (torch.randn(count, inputs, generator=draw) for count in (1, 1000))
    product = torch.nn.functional.linear(row.expand(rows, -1).contiguous(), weights)
    assert all(torch.equal(one, product[0]) for one in product)
    assert rows_are_independent()


def test_where_they_have_not_images_are_measured_one_at_a_time(monkeypatch):
    bundle = bundle_from_module(torch.nn.Conv2d(3, 2, 1).eval(), torch.nn.Identity())
    monkeypatch.setattr(devices, "rows_are_independent", lambda: False)
    assert HookedTarget(bundle, device="cpu").batch_size == 1
    assert HookedTarget(bundle, device="cpu", batch_size=3).batch_size == 3


def test_that_is_so_where_torch_computed_before_with_its_defaults():
    code = """
import torch
torch.rand(5, 6) @ torch.rand(6, 6)
from line_neurons.tools.devices import rows_are_independent
row = torch.arange(1280.0).cos()[None].expand(5, -1).contiguous()
product = torch.nn.functional.linear(row, torch.arange(1_280_000.0).sin().reshape(1000, 1280))
print(rows_are_independent() and not all(torch.equal(one, product[0]) for one in product))
"""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
