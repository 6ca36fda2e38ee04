"""Texts of a million characters: the work that they cause grows with their length and no faster."""

import resource
import subprocess
import sys

import pytest

from hostile.texts import LARGE

CPU_SECONDS = 20
"""Far more than linear work takes, far less than work that grows with the square: that takes hours."""


def read_everywhere(text):
    """Give a text to everything that reads, cleans or quotes texts from outside."""
    import contextlib
    import json

    from line_neurons.agent.concepts import class_concept, concept_words, find_duplicate
    from line_neurons.agent.errors import LineError, ReplyError
    from line_neurons.agent.prompts import initial_prompt
    from line_neurons.agent.replies import parse_reply
    from line_neurons.tools.control_sets.class_names import readable_names
    from line_neurons.tools.image_bank.folder import clean
    from line_neurons.tools.image_bank.phrases import normalise, parse
    from line_neurons.tools.language_models.engine import Completion
    from line_neurons.tools.language_models.proposer import _tidied
    from line_neurons.tools.targets.unit_selectors import parse_units
    from line_neurons.tui.cli import output as terminal

    for reply in (text, json.dumps({"reasoning": text, "concept": text}), json.dumps({text: text})):
        tidy = _tidied(Completion(f"<think>{text}</think>{reply}", False, text))
        for answer, thoughts in ((reply, text), (tidy.text, tidy.thoughts)):
            with contextlib.suppress(ReplyError):
                parse_reply(answer, thoughts=thoughts)
    find_duplicate(text, [class_concept(text), text])
    concept_words(text)
    initial_prompt(text, text, 8, [text], [text])
    readable_names([text])
    normalise(clean(text))
    parse(text, lambda name: False, frozenset())
    with contextlib.suppress(LineError):
        parse_units([text], 2, [text, "owl"], seed=0, layer=text)
    terminal.table([""], [[text]], text)
    terminal.line(text)
    terminal.complain(LineError(text, text))


@pytest.mark.parametrize("name", LARGE)
def test_a_million_characters_are_read_in_linear_work(name):
    path = [folder for folder in sys.path if folder]
    code = (
        f"import sys; sys.path[:0] = {path!r}; from hostile.texts import LARGE;"
        f"from hostile.test_large_texts import read_everywhere; read_everywhere(LARGE[{name!r}])"
    )

    def bounded():
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, preexec_fn=bounded, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout) + len(done.stderr) < 100_000
