from dataclasses import replace

from line_neurons.tools.store.records import Step
from line_neurons.tui.formatting import Estimate
from line_neurons.tui.guidance_text import (
    early_end,
    image_source,
    knows,
    named_in,
    next_candidates,
    predicted,
    promise,
)


def step(concept="cow", **guidance):
    detail = {"guidance": guidance} if guidance else None
    return Step("run", 0, 1, 0, "iteration", "scored", concept, 3.0, detail=detail)


GUESS = {"score": 2.038, "deviation": 2.436, "improvement": 0.2223, "knows": 0.412}


def test_what_was_expected_of_a_step_and_what_came_next():
    candidates = [["cow", 0.2223], ["zebra", 0.21], ["tiger", 0.18], ["bison", 0.17], ["sheep", 0.1]]
    entry = step(**GUESS, candidates=candidates)
    assert predicted(entry) == Estimate(2.038, 2.436)
    assert promise(entry) == (
        "predicted 2.04 ± 2.4; expected improvement 0.222; next candidates: zebra 0.21, tiger 0.18, bison 0.17"
    )
    assert knows([step(), entry]) == "0.41"


def test_the_next_candidates_are_those_of_the_last_step_that_nobody_proposed_best_first():
    earlier = step("eel", candidates=[["eel", 0.5], ["goat", 0.4]])
    waiting = [["wasp", 0.15, 2], ["Zebras", 0.3, 2], ["moth", None, 2], ["eel", 0.2, 1]]
    last = step(
        "cow", candidates=[["cow", 0.2223], ["zebra", 0.21], ["tiger", 0.18], ["bison", 0.1], ["ox", 0.05]]
    )
    assert next_candidates([earlier, last]) == ("zebra", "tiger", "bison", "ox")
    last = replace(last, detail={**(last.detail or {}), "proposals": {"waiting": waiting}})
    assert next_candidates([earlier, last]) == ("Zebras", "tiger", "wasp", "bison", "ox")
    assert next_candidates([earlier, last, step("tigers")]) == ("Zebras", "wasp", "bison", "ox")
    assert next_candidates([]) == next_candidates([step()]) == ()


def test_a_unit_of_which_nothing_is_known_says_so():
    entry = step(**GUESS | {"knows": -0.1}, by="nearness")
    assert promise(entry).endswith("nearest concepts, as the response model knows nothing of the unit")
    assert knows([entry]) == "-0.10, nothing"
    assert knows([step(score=1.0, deviation=0.0)]) == "too few scores to tell"


def test_a_proposal_says_where_it_comes_from_and_which_others_wait():
    waiting = [["eel", 0.2, 3], ["cat", 0.1, 1], ["fox", 0.05, 3], ["owl", 0.01, 3]]
    detail = {"guidance": GUESS, "proposals": {"step": 1, "cut": 2, "named": 7, "left": 0, "waiting": waiting}}
    entry = Step("run", 0, 3, 0, "iteration", "scored", "cow", 3.0, detail=detail, seed=4)
    assert promise(entry).endswith(
        "expected improvement 0.222; named in step 1; 2 more than requested, not used; "
        "less promising, waiting: eel 0.2, cat 0.1, fox 0.05 and 1 more"
    )
    assert named_in(entry) == ""
    assert named_in(replace(entry, seed=None)) == "named in step 1"
    unranked = {"proposals": {"step": 3, "waiting": [["eel", None, 3], "x"]}}
    assert promise(replace(entry, detail=unranked)) == "less promising, waiting: eel"
    assert promise(replace(entry, detail={"proposals": {"step": "x", "waiting": 3}})) == ""


def test_a_concept_of_the_strongest_images_says_which_led_to_it():
    initial = Step("run", 0, 0, 0, "initial", "scored", "cow", 3.0, detail={"images": "one half"})
    assert promise(initial) == "from one half of the strongest images"
    assert image_source(replace(initial, detail={"images": 3})) == ""


def test_without_the_response_model_nothing_is_said():
    assert (predicted(step()), promise(step()), knows([step()])) == (None, "", "")


def test_a_damaged_detail_is_left_out():
    entry = step(score="high", deviation=[], candidates=[["cow"], 3, ["owl", "much"]])
    assert (predicted(entry), promise(entry)) == (None, "")
    assert promise(step(**GUESS, candidates=[["cow"], 3, ["owl", "much"]])).endswith("improvement 0.222")


def test_a_search_that_until_ended_says_so_with_its_numbers():
    board = (("cow", 8.0), ("owl", 1.0))
    initial = Step("run", 0, 0, 9, "initial", "scored", "owl", 1.0, detail={"expected": 0.04}, board=board)
    one = Step("run", 0, 1, 0, "iteration", "scored", "ox", 2.0, detail={"expected": 0.02}, board=board)
    settings = {"until": 0.01, "iterations": 5}
    said = "the expected improvement was 0.04, the best score 8"
    assert early_end(settings, [initial]) == f"search ended by until 0.01, before any proposal: {said}"
    assert early_end(settings, [initial, one]).startswith("search ended by until 0.01: ")
    assert early_end(settings | {"until": 0.001}, [initial, one]) == ""
    assert early_end(settings | {"iterations": 1}, [initial, one]) == ""
    assert early_end({"iterations": 5}, [initial]) == ""
