from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.prompts import (
    ANGLES,
    LIGHTINGS,
    image_requests,
    paper_propose_prompt,
    paper_summary_prompt,
    propose_prompt,
    summary_prompt,
)
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.text import format_score, format_spread, short_score

BOARD = Scoreboard((Entry("crow", 9.2), Entry("magpie", 7.1), Entry("pigeon", 6.8), Entry("candle", 0.2)), 10)


def test_the_request_shows_the_board_best_first_the_forbidden_and_what_can_be_drawn():
    text = propose_prompt(BOARD, ["robin"], ["owl", "toucan"]).messages[-1].content
    assert text.index("9.2 crow") < text.index("7.1 magpie") < text.index("0.2 candle")
    assert "Forbidden: robin" in text
    assert "owl, toucan" in text


def test_nothing_is_said_of_drawable_things_when_there_are_none_to_name():
    assert "Images can be made" not in propose_prompt(BOARD, []).messages[-1].content


def test_the_summary_sees_the_top_three_only():
    text = summary_prompt(BOARD, []).messages[-1].content
    assert "pigeon" in text
    assert "candle" not in text


def test_the_papers_question_has_the_board_and_what_was_proposed_and_nothing_else():
    prompt = paper_propose_prompt(BOARD, ["crow", "robin"])
    assert prompt.messages[-1].content.splitlines() == [
        "Scoreboard:", "9.2 crow", "7.1 magpie", "6.8 pigeon", "0.2 candle", "Forbidden: crow, robin",
        "Name a new concept.",
    ]  # fmt: skip
    assert not any("Images can be made" in message.content for message in prompt.messages)


def test_the_papers_summary_sees_the_top_three_alone():
    prompt = paper_summary_prompt(BOARD)
    lines = ["Scoreboard:", "9.2 crow", "7.1 magpie", "6.8 pigeon", "Name a new concept."]
    assert prompt.messages[-1].content.splitlines() == lines
    assert not any("orbidden" in message.content for message in prompt.messages)


def test_refusals_are_told_with_the_duplicate_named():
    text = propose_prompt(BOARD, [], refused=['"robin" was tried already.']).messages[-1].content
    assert 'Refused: "robin" was tried already.' in text


def test_the_shared_messages_are_the_same_for_every_board():
    one, other = propose_prompt(BOARD, ["x"]), propose_prompt(Scoreboard((Entry("a", 1.0),), 1), [], ["b"])
    assert one.messages[: one.shared] == other.messages[: other.shared]
    assert one.messages[one.shared :] != other.messages[other.shared :]


def test_the_examples_answer_in_the_form_that_is_asked_for():
    paper = paper_propose_prompt(BOARD, []), paper_summary_prompt(BOARD)
    for prompt in (propose_prompt(BOARD, []), summary_prompt(BOARD, []), *paper):
        answers = [message.content for message in prompt.messages if message.role == "assistant"]
        assert answers
        for answer in answers:
            assert parse_reply(answer).concept


def test_the_image_prompt_is_the_papers():
    request = image_requests("gatherer", 1, 0)[0]
    assert request.prompt == f"A realistic photo of a gatherer, {request.angle}, {request.lighting}"


def test_a_concept_that_looks_like_a_placeholder_is_drawn_as_it_is():
    assert "{angle}" in image_requests("{angle}", 1, 0)[0].prompt


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**31 - 1), st.integers(1, 6))
def test_images_are_a_function_of_seed_concept_and_index(concept, seed, count):
    requests = image_requests(concept, count, seed)
    assert requests == image_requests(concept, count, seed)
    assert requests[1:] == image_requests(concept, count - 1, seed, first=1)


def test_angles_and_lightings_are_drawn_uniformly():
    requests = image_requests("dog", 6000, 1)
    for drawn, names in (([r.angle for r in requests], ANGLES), ([r.lighting for r in requests], LIGHTINGS)):
        shares = [Counter(drawn)[name] / len(drawn) * len(names) for name in names]
        assert min(shares) > 0.9
        assert max(shares) < 1.1


def test_one_draw_for_a_concept_gives_all_its_images_the_same_modifiers_and_different_seeds():
    requests = image_requests("dog", 5, 1, per_concept=True)
    assert len({(r.angle, r.lighting) for r in requests}) == 1
    assert len({r.seed for r in requests}) == 5


def test_scores_are_short():
    # A screen has no room for digits that a language model always was given.
    assert [format_score(x) for x in (1e10, -2.5e6)] == ["10000000000", "-2500000"]
    assert [short_score(x) for x in (1e10, -2.5e6, 12345.6, 0.5)] == ["1e+10", "-2.5e+06", "12346", "0.5"]
    assert [format_spread(x) for x in (3e9, 12.3, 0.31)] == ["± 3e+09", "± 12", "± 0.31"]
    assert [format_score(x) for x in (17.3376, 0.01234, -2.583, 12345.6)] == ["17.3", "0.0123", "-2.58", "12346"]
