import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import NotDrawableError
from line_neurons.eval.cosy.formulas import alternatives


@pytest.mark.parametrize(
    ("formula", "things"),
    [
        ("sea lion", ["sea lion"]),
        ("rock and roll", ["rock and roll"]),
        ("dog AND cat", ["dog and cat"]),
        ("dog OR sea lion", ["dog", "sea lion"]),
        ("dog AND NOT cat", ["dog"]),
        ("NOT cat AND dog", ["dog"]),
        ("(dog OR wolf) AND NOT cat", ["dog", "wolf"]),
        ("dog OR wolf AND cat", ["dog", "wolf and cat"]),
        ("NOT (NOT dog OR cat)", ["dog"]),
        ("NOT NOT dog", ["dog"]),
        ("dog AND dog", ["dog"]),
    ],
)
def test_images_show_what_fulfils_a_formula(formula, things):
    assert alternatives(formula) == things


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("NOT cat", "has only negated concepts"),
        ("dog OR NOT cat", "has only negated concepts"),
        ("dog AND", "ends too early"),
        ("AND dog", "'AND' does not belong"),
        ("(dog OR cat", "a bracket is not closed"),
        ("dog AND NOT dog", "contradicts itself"),
        ("dog OR cat)", "'[)]' does not belong"),
        (" AND ".join(["(a OR b)"] * 30), "too many cases"),
        ("NOT (" * 3000 + "dog", "cannot be generated"),
    ],
)
def test_what_no_image_can_show_is_refused(formula, said):
    with pytest.raises(NotDrawableError, match=said):
        alternatives(formula)


FORMULA = st.recursive(
    st.sampled_from("abcd"),
    lambda part: st.one_of(
        part.map(lambda one: f"NOT {one}" if len(one) == 1 else f"NOT ({one})"),
        st.tuples(part, st.sampled_from(["AND", "OR"]), part).map(
            lambda three: f"({three[0]}) {three[1]} ({three[2]})"
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=60)
@given(FORMULA)
def test_every_alternative_fulfils_its_formula(formula):
    try:
        found = alternatives(formula)
    except NotDrawableError:
        return
    said = formula.replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    for things in found:
        assert eval(said, {}, {name: name in things.split(" and ") for name in "abcd"})
