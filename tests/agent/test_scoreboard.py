from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.scoreboard import Entry, Scoreboard, draw_others, replay, update

SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32)
CONCEPTS = st.text("abcdefgh", min_size=1, max_size=2)
HISTORIES = st.lists(st.tuples(CONCEPTS, SCORES), max_size=30)


@st.composite
def boards(draw: st.DrawFn) -> Scoreboard:
    scores = draw(st.dictionaries(CONCEPTS, SCORES, min_size=1, max_size=10))
    capacity = draw(st.integers(len(scores), 12))
    return Scoreboard(tuple(Entry(concept, score) for concept, score in scores.items()), capacity)


def walk(board: Scoreboard, history: list[tuple[str, float]], seed: int = 0) -> Scoreboard:
    return replay(board, [(step, *scored) for step, scored in enumerate(history)], seed, 0)


@given(boards(), HISTORIES)
def test_a_full_board_keeps_its_size(board, history):
    full = Scoreboard(board.entries, len(board.entries))
    assert len(walk(full, history).entries) == full.capacity


@given(boards(), HISTORIES)
def test_a_board_with_room_grows_up_to_its_capacity_and_never_shrinks(board, history):
    after = walk(board, history)
    assert len(board.entries) <= len(after.entries) <= board.capacity


@given(boards(), HISTORIES)
def test_the_best_is_lost_only_to_a_better_one(board, history):
    for step, (concept, score) in enumerate(history):
        after = update(board, concept, score, Random(step)).board
        assert after.best.score == max(board.best.score, score) or board.capacity == 1
        assert after.best.score >= board.best.score
        board = after


@given(boards(), HISTORIES, st.integers(0, 2**31 - 1))
def test_the_board_is_a_function_of_history_and_seed(board, history, seed):
    assert walk(board, history, seed) == walk(board, history, seed)


@given(boards(), HISTORIES)
def test_entries_stay_sorted_and_distinct(board, history):
    entries = walk(board, history).entries
    assert [e.score for e in entries] == sorted((e.score for e in entries), reverse=True)
    assert len({e.concept for e in entries}) == len(entries)


@given(boards(), CONCEPTS, SCORES, st.integers())
def test_an_update_removes_at_most_one_and_says_which(board, concept, score, seed):
    result = update(board, concept, score, Random(seed))
    gone = {e.concept for e in board.entries} - {e.concept for e in result.board.entries}
    assert gone == ({result.removed.concept} if result.removed else set())


def board_of(scores: dict[str, float]) -> Scoreboard:
    return Scoreboard(tuple(Entry(*item) for item in scores.items()), len(scores))


def test_a_score_above_the_lowest_replaces_the_lowest():
    result = update(board_of({"a": 3, "b": 2, "c": 1}), "d", 1.5, Random(0))
    assert result.removed == Entry("c", 1)
    assert [e.concept for e in result.board.entries] == ["a", "b", "d"]


def test_a_low_score_removes_with_probability_proportional_to_the_distance_from_the_best():
    board = board_of({"a": 4, "b": 3, "c": 1})
    removed = [update(board, "d", 0, Random(seed)).removed.concept for seed in range(4000)]
    assert "a" not in removed
    assert removed.count("c") / len(removed) == pytest.approx(3 / 4, abs=0.03)


def test_equal_scores_draw_uniformly():
    board = board_of({"a": 1, "b": 1, "c": 1, "d": 1})
    removed = [update(board, "e", 1, Random(seed)).removed.concept for seed in range(4000)]
    assert [removed.count(name) / len(removed) for name in "abcd"] == pytest.approx([0.25] * 4, abs=0.03)


def test_a_repeated_concept_keeps_its_higher_score_and_takes_no_second_place():
    board = board_of({"a": 3, "b": 2})
    assert update(board, "a", 1, Random(0)).board == board
    assert update(board, "b", 5, Random(0)).board.best == Entry("b", 5)


def test_a_repeated_concept_that_overwrites_has_its_new_score_and_costs_the_board_a_place():
    board = board_of({"a": 3, "b": 2, "c": 1})
    above = update(board, "a", 1.5, Random(0), overwrite=True)
    assert (above.removed, above.board.entries) == (Entry("c", 1), (Entry("b", 2), Entry("a", 1.5)))
    later = update(above.board, "d", 9, Random(0), overwrite=True)
    assert (later.removed, later.board.entries) == (Entry("a", 1.5), (Entry("d", 9), Entry("b", 2)))


def test_a_repeated_concept_that_is_drawn_to_leave_only_changes_its_score():
    board = board_of({"a": 3, "b": 1})
    result = update(board, "b", 0.5, Random(0), overwrite=True)
    assert (result.removed, result.board.entries) == (None, (Entry("a", 3), Entry("b", 0.5)))


def test_a_board_of_one_takes_the_new_score_of_its_concept():
    board = board_of({"a": 3})
    assert update(board, "a", 1, Random(0), overwrite=True).board.entries == (Entry("a", 1),)
    assert update(board, "b", 1, Random(0), overwrite=True).board == board


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused(score):
    with pytest.raises(ValueError, match="not finite"):
        update(board_of({"a": 1}), "b", score, Random(0))


def test_the_others_of_an_initial_board_are_shuffled_and_none_is_lost():
    ranked = [f"c{i}" for i in range(40)]
    others = draw_others(ranked, 5, Random(1))
    assert sorted(others) == sorted(ranked[5:])
    assert others != ranked[5:]
    assert draw_others(ranked, 5, Random(1)) == others


def test_each_other_class_is_equally_likely_on_the_first_board():
    ranked = [f"c{i}" for i in range(15)]
    drawn = [name for seed in range(3000) for name in draw_others(ranked, 5, Random(seed))[:5]]
    shares = [drawn.count(name) / 3000 for name in ranked[5:]]
    assert min(shares) > 0.45
    assert max(shares) < 0.55


def test_with_a_pool_that_was_drawn_uniformly_each_other_class_is_as_likely():
    ranked = [f"c{i}" for i in range(15)]
    pools = [set(Random(-seed - 1).sample(sorted(ranked), 8)) for seed in range(3000)]
    drawn = [name for seed, pool in enumerate(pools) for name in draw_others(ranked, 5, Random(seed), pool)[:3]]
    shares = [drawn.count(name) / 3000 for name in ranked[5:]]
    assert min(shares) > 0.25
    assert max(shares) < 0.35


def test_names_of_the_pool_come_first_and_the_rest_when_they_are_spent():
    others = draw_others([f"c{i}" for i in range(20)], 5, Random(3), {"c0", "c7", "c9", "c19"})
    assert set(others[:3]) == {"c7", "c9", "c19"}
    assert len(others) == 15


def pinned_of(board, data):
    return data.draw(st.sets(st.sampled_from([entry.concept for entry in board.entries])))


@given(boards(), HISTORIES, st.data())
def test_what_is_pinned_stays_and_the_best_is_still_lost_only_to_a_better_one(board, history, data):
    pinned = pinned_of(board, data)
    for step, (concept, score) in enumerate(history):
        after = update(board, concept, score, Random(step), pinned).board
        assert pinned <= {entry.concept for entry in after.entries}
        assert len(board.entries) <= len(after.entries) <= board.capacity
        assert after.best.score >= board.best.score
        board = after


@given(boards(), HISTORIES)
def test_where_all_is_pinned_a_full_board_takes_nothing_new(board, history):
    full = Scoreboard(board.entries, len(board.entries))
    pinned = {entry.concept for entry in full.entries}
    for step, (concept, score) in enumerate(history):
        result = update(full, concept, score, Random(step), pinned)
        assert {entry.concept for entry in result.board.entries} == pinned
        assert result.removed is None


@given(boards(), CONCEPTS, SCORES, st.integers(), st.data())
def test_a_better_concept_takes_the_lowest_place_that_is_not_pinned(board, concept, score, seed, data):
    full, pinned = Scoreboard(board.entries, len(board.entries)), pinned_of(board, data)
    free = [entry for entry in full.entries if entry.concept not in pinned]
    if free and score > free[-1].score and concept not in {entry.concept for entry in full.entries}:
        assert update(full, concept, score, Random(seed), pinned).removed == free[-1]
