"""Hostile text in replies, names and captions, and in the questions that quote them."""

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hostile.texts import NAMED, hostile, obeyed
from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import ReplyError, UsageError
from line_neurons.agent.ports import ImageRequest
from line_neurons.agent.prompts import IMAGE_TEMPLATE, initial_prompt, propose_prompt, summary_prompt
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.text import clean_text, storable_text
from line_neurons.tools.control_sets.class_names import readable_names
from line_neurons.tools.image_bank.folder import clean, folder_bank
from line_neurons.tools.targets.unit_selectors import parse_units
from line_neurons.tools.vocabulary import read_words

SEVERAL = st.lists(hostile(), min_size=1, max_size=4, unique=True)


@given(hostile(), st.integers(1, 300))
def test_cleaned_text_is_inert_short_and_stays_as_it_is(text, limit):
    cleaned = clean_text(text, limit)
    assert obeyed(cleaned) == []
    assert "\n" not in cleaned
    assert len(cleaned) <= limit
    assert clean_text(cleaned, limit) == cleaned


@given(hostile())
def test_text_that_can_be_stored_is_left_as_it_is_and_any_other_becomes_so(text):
    stored = storable_text(text)
    stored.encode()
    assert stored == text or any("\ud800" <= character <= "\udfff" for character in text)


@given(hostile(), hostile())
def test_a_reply_gives_a_clean_proposal_or_is_refused_and_is_kept_either_way(reasoning, concept):
    for reply in (
        json.dumps({"reasoning": reasoning, "concept": concept}),
        concept,
        f'{{"concept": "{concept}"}}',
    ):
        try:
            said = parse_reply(reply, thoughts=reasoning)
        except ReplyError as error:
            said = error
        assert said.raw == storable_text(reply)
        assert obeyed(said.reasoning + said.concept) == []
        assert not isinstance(said, ReplyError) or obeyed(said.detail) == []


@given(hostile())
@example("{angle} {lighting} {concept}")
def test_a_concept_fills_the_image_s_template_once(text):
    concept = class_concept(text)
    assert not set(concept) & set('<>[]{}/\\|`"*;=%$')
    drawn = ImageRequest(concept, "low angle", "studio lighting", 0, IMAGE_TEMPLATE).prompt
    assert drawn == f"A realistic photo of a {concept}, low angle, studio lighting"
    assert concept_key(concept) == concept_key(concept_key(concept)) or len(concept.split()) > 1


@given(SEVERAL, SEVERAL, SEVERAL, SEVERAL)
def test_a_question_has_the_lines_that_the_counts_of_what_it_quotes_say(concepts, hints, refused, found):
    board = Scoreboard(tuple(Entry(concept, 1.0) for concept in concepts), len(concepts))
    plain = Scoreboard(tuple(Entry(f"owl {number}", 1.0) for number, _ in enumerate(concepts)), len(concepts))
    for make in (propose_prompt, summary_prompt):
        asked = make(board, concepts, hints, refused, found)
        usual = make(plain, ["owl"], ["owl"], ["owl"] * len(refused), ["owl"])
        assert asked.messages[:-1] == usual.messages[:-1]
        request, expected = asked.messages[-1].content, usual.messages[-1].content
        assert _beginnings(request) == _beginnings(expected)
        assert not set(request) & set("<>[]{}|\uff5c")
        assert obeyed(request) == []
        assert len(request) < 120 * (2 * len(concepts) + len(hints) + len(found) + 6) + 520 * len(refused)


@given(hostile(), hostile(), SEVERAL, SEVERAL)
def test_a_first_question_has_the_lines_that_the_counts_say(model, layer, named, refused):
    request = initial_prompt(model, layer, 8, named, refused).messages[-1].content
    lines = request.split("\n")
    assert len(lines) == 3 + len(refused)
    assert lines[0].endswith(", 8 units.")
    assert lines[-1] == "Name a new concept."
    assert obeyed(request) == []


def _beginnings(request):
    return [line.split(" ")[0] for line in request.split("\n")]


@given(hostile())
def test_captions_and_class_names_are_clean_lines(text):
    for name in (clean(text), readable_names([text])[0]):
        assert obeyed(name) == []
        assert "\n" not in name
        assert len(name) <= 200


def test_a_folder_s_captions_are_cleaned_and_its_file_names_are_data(tmp_path):
    bank = tmp_path / "bank"
    bank.mkdir()
    for number, text in enumerate(NAMED.values()):
        # A file name has no slash and no NUL, and bytes that are no UTF-8 come as surrogates.
        usable = text.replace("/", "_").replace("\0", "_").replace("\ud800", "").replace("\udfff", "")
        name = usable.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "surrogateescape")
        Image.new("RGB", (8, 8), (number, 0, 0)).save(bank / f"{number} {name}.png", "PNG")
        caption = text.encode("utf-8", "surrogatepass")
        (bank / f"{number} {name}.txt").write_bytes(caption + b"\n" + caption)
    opened = folder_bank(bank)
    assert len(opened.entries) == len(NAMED)
    assert opened.fingerprint == folder_bank(bank).fingerprint
    for entry in opened.entries:
        assert obeyed("".join([entry.caption, *entry.also])) == []


@pytest.mark.parametrize("file", [text for name, text in NAMED.items() if name not in {"empty", "blank"}])
def test_a_table_of_captions_reaches_no_file_beyond_its_folder(tmp_path, file):
    table = io.StringIO()
    csv.writer(table).writerows([["file", "caption"], [file, "owl"]])
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "captions.csv").write_bytes(table.getvalue().encode("utf-8", "replace"))
    Image.new("RGB", (8, 8)).save(tmp_path / "passwd", "PNG")
    with pytest.raises(UsageError) as caught:
        folder_bank(tmp_path / "bank")
    assert obeyed(clean_text(str(caught.value), 4000)) == []


def test_word_lists_are_read_as_clean_words(tmp_path):
    (tmp_path / "words.txt").write_bytes("\n".join(NAMED.values()).encode("utf-8", "replace"))
    words = read_words(tmp_path / "words.txt")
    assert words
    assert obeyed("".join(words)) == []
    assert not set("".join(words)) & set('<>[]{}/\\|`"*;=\n')


@given(hostile())
def test_units_are_named_by_any_text_or_it_is_refused(text):
    try:
        assert parse_units([text], 2, ["owl", text], seed=0, layer=text)
    except UsageError as error:
        assert obeyed(clean_text(str(error), 4000)) == []


def test_a_file_of_units_is_refused_in_one_line(tmp_path):
    for text in NAMED.values():
        (tmp_path / "units.txt").write_bytes(f"{text}\n".encode("utf-8", "surrogatepass"))
        with pytest.raises(UsageError):
            parse_units([f"@{tmp_path / 'units.txt'}"], 2, ["cat", "dog"], seed=0, layer="head")
