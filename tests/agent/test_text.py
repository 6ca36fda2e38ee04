"""Text as it is shown, stored and quoted."""

import os
import shlex
import subprocess

from hypothesis import example, given, settings
from hypothesis import strategies as st

from line_neurons.agent.concepts import normalise_concept
from line_neurons.agent.text import clean_text, shell_word

WORDS = st.binary(min_size=1, max_size=40).filter(lambda word: b"\0" not in word).map(os.fsdecode)


@given(st.lists(WORDS, min_size=1, max_size=20))
@example(["a\nb", "two  blanks", "it's", "back\\slash\n", "\udcff", "\u3164", " ", "plain"])
@settings(max_examples=20)
def test_a_shell_reads_the_word_that_was_quoted_and_people_see_all_of_it(words):
    quoted = [shell_word(word) for word in words]
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {' '.join(quoted)}"], check=True, capture_output=True
    ).stdout.split(b"\0")
    assert read[:-1] == [os.fsencode(word) for word in words]
    assert [clean_text(word, 1000) for word in quoted] == quoted


def test_a_plain_word_is_quoted_as_python_does():
    assert [shell_word(word) for word in ("store", "my store")] == [
        shlex.quote(word) for word in ("store", "my store")
    ]


def test_control_characters_and_bidirectional_overrides_are_cleaned_away():
    assert normalise_concept("red\x1b[0m fox".replace("[", "")) == "red 0m fox"
    assert normalise_concept("red\u202efox\x00") == "redfox"
    assert clean_text("a\x1bb\nc\u200bd", 100) == "a b cd"
