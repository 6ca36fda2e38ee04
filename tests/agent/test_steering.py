"""Laws of what people may ask of a search, whatever they ask and in whichever order."""

from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.steering import OUTDATED, Search, steer

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
WISHES = st.lists(
    st.tuples(st.sampled_from(["pin", "unpin", "ban", "unban", "try", "again"]), st.sampled_from(WORDS)),
    max_size=12,
)


@st.composite
def searches(draw):
    scored = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6, unique=True))
    entries = tuple(Entry(word, float(draw(st.integers(0, 9)))) for word in scored)
    on_board = draw(st.integers(1, len(entries)))
    board = Scoreboard(entries[:on_board], draw(st.integers(on_board, 6)))
    proposal = draw(st.sampled_from(["", *sorted(set(WORDS) - set(scored))]))
    return Search(board, entries, tuple(scored), proposal=proposal, ended=draw(st.booleans()) and not proposal)


def granted(search, wishes):
    for kind, concept in wishes:
        search, outcome = steer(search, kind, "" if kind == "again" else concept)
        yield search, kind, concept, outcome


@given(searches(), WISHES)
def test_the_board_never_empties_nor_overflows_and_holds_only_what_was_scored(search, wishes):
    known = {(entry.concept, entry.score) for entry in search.scored}
    for after, *_ in granted(search, wishes):
        assert 1 <= len(after.board.entries) <= after.board.capacity
        assert {(entry.concept, entry.score) for entry in after.board.entries} <= known


@given(searches(), WISHES)
def test_pinned_concepts_are_on_the_board_and_banned_ones_nowhere(search, wishes):
    for after, *_ in granted(search, wishes):
        board = {entry.concept for entry in after.board.entries}
        assert set(after.pinned) <= board
        assert not set(after.banned) & (board | set(after.pinned) | set(after.typed))
        assert set(after.banned) <= set(after.tried)
        assert bool(after.withdrawn) <= bool(search.proposal)


@given(searches(), WISHES)
def test_a_refused_wish_changes_nothing_and_a_granted_one_something(search, wishes):
    before = search
    for after, kind, _, outcome in granted(search, wishes):
        assert outcome
        if outcome.startswith("refused"):
            assert after == before
        elif kind not in {"pin", "again"}:
            assert after != before
        before = after


@given(searches(), WISHES)
def test_what_ended_goes_on_for_as_many_steps_as_were_asked_for(search, wishes):
    last, more = search, 0
    for after, kind, _, outcome in granted(search, wishes):
        more += kind in {"try", "again"} and not outcome.startswith("refused")
        last = after
    assert last.further == (more if search.ended else 0)
    assert len({concept_key(concept) for concept in last.typed}) == len(last.typed)


@given(searches(), st.sampled_from(WORDS))
def test_an_unban_is_the_end_of_a_ban(search, word):
    banned, outcome = steer(search, "ban", word)
    after, said = steer(banned, "unban", word)
    if outcome.startswith("refused"):
        assert said == "refused: it is not banned"
        return
    assert after.banned == ()
    assert after.tried == search.tried
    if len(search.board.entries) > 1 and word in {entry.concept for entry in search.board.entries}:
        assert word in {entry.concept for entry in after.board.entries}
        assert said == "no longer banned; back on the board"


def test_an_unbanned_concept_takes_the_place_of_a_lower_one_that_is_not_pinned():
    ant, bee, cat = Entry("ant", 3.0), Entry("bee", 2.0), Entry("cat", 1.0)
    full = Search(Scoreboard((bee, cat), 2), (ant, bee, cat), ("ant", "bee", "cat"), banned=("ant",))
    assert [entry.concept for entry in steer(full, "unban", "ants")[0].board.entries] == ["ant", "bee"]
    pinned = Search(Scoreboard((bee, cat), 2), full.scored, full.tried, banned=("ant",), pinned=("bee", "cat"))
    assert steer(pinned, "unban", "ant")[1] == "no longer banned"
    lower = Search(Scoreboard((ant, bee), 2), full.scored, full.tried, banned=("cat",))
    assert steer(lower, "unban", "cat")[0].board == lower.board


def test_a_pin_after_the_end_is_outdated_unless_the_search_continues():
    ant, bee = Entry("ant", 3.0), Entry("bee", 2.0)
    ended = Search(Scoreboard((ant, bee), 2), (ant, bee), ("ant", "bee"), ended=True)
    after, outcome = steer(ended, "pin", "bee")
    assert outcome.startswith(OUTDATED)
    assert after.pinned == ("bee",)
    continued, _ = steer(ended, "again", "")
    assert steer(continued, "pin", "bee")[1] == "pinned"
