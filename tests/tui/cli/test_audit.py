"""``line audit``: what is refused before anything is loaded, and files of other methods."""

from pathlib import Path

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.eval.audit.lean import PREFIXES
from line_neurons.tui.cli.eval import audit as work
from line_neurons.tui.cli.eval.audit import AuditOptions


def run(source="torchvision:mobilenet_v2", **options):
    work.audit(source, Settings(), {}, AuditOptions(**options), output=None, as_json=True, trust=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"no class is named.*or all"),
        ({"classes": ("ox",), "others": ("dexter",)}, r"'dexter' names no method and file.*--other dexter="),
        ({"classes": ("ox",), "how": "remove,replace"}, "'replace' is not a kind of edit of an audit"),
        ({"classes": ("ox",), "editor": "composd"}, r"no editor 'composd'.*composed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, said):
    with pytest.raises(UsageError, match=said) as caught:
        run(**options)
    assert "\n" not in str(caught.value)


def test_files_of_other_methods_are_named_by_method():
    assert work._other_files(["dexter=words.csv", "mine=a=b.csv"]) == {
        "dexter": Path("words.csv"),
        "mine": Path("a=b.csv"),
    }
    assert work.edit_kinds("insert, remove,insert", PREFIXES) == ["insert", "remove"]
