"""The examples in the docstrings of modules that people open first."""

import ast
import doctest
import importlib
import re
import textwrap

import pytest


@pytest.mark.parametrize("module", ["agent.concepts", "agent.scoreboard", "tools.scorers"])
def test_the_examples_of_a_module_run(module):
    result = doctest.testmod(importlib.import_module(f"line_neurons.{module}"))
    assert result.attempted > 2
    assert result.failed == 0


def test_the_example_of_explain_compiles_and_names_what_there_is():
    # It needs models, so it is not run.
    module = importlib.import_module("line_neurons.graphs.api.explain")
    example = textwrap.dedent("\n".join(re.findall(r"^    .*$", module.__doc__, re.MULTILINE)))
    names = {node.id for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Name)}
    assert names <= {"explain", "result", "print"}
    attributes = {node.attr for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Attribute)}
    assert attributes <= set(module.UnitResult.__dataclass_fields__)
