import subprocess
import sys

import pytest
import torch

from line_neurons.tools.devices import deterministic_arithmetic


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
