import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components


def explain(store, model, *, units=("0",), **options):
    components = scripted_components(store, model, **options)
    run = work(components, start(components, LAYER, units))
    return components, run


def history(components, run, unit=0):
    return [
        (step.step, step.attempt, step.outcome, step.concept)
        for step in components.runs.steps(run.id, unit)
        if step.step
    ]


def counting(prefix="thing"):
    """A model that never repeats itself, whatever it is asked."""
    return ScriptedModel(lambda prompt, seed, temperature: f"{prefix} {seed}")


def test_n_iterations_then_one_summary(tmp_path):
    components, run = explain(tmp_path, ScriptedModel(["one", "two", "three"]), iterations=2)
    assert history(components, run) == [
        (1, 0, "scored", "one"),
        (2, 0, "scored", "two"),
        (3, 0, "scored", "three"),
    ]
    assert [step.kind for step in components.runs.steps(run.id, 0)][-3:] == ["iteration", "iteration", "summary"]


def test_no_iterations_and_no_summary_labels_with_the_best_initial_concept(tmp_path):
    model = ScriptedModel([])
    components, run = explain(tmp_path, model, iterations=0, summary=False)
    unit = components.runs.units(run.id)[0]
    assert model.asked == []
    assert (unit.label, unit.origin, unit.margin, unit.discovered) == (
        unit.initial_label,
        "predefined",
        0.0,
        False,
    )


def test_the_first_board_has_the_best_classes_and_as_many_random_others(tmp_path):
    classes = [f"c{i}" for i in range(20)]
    target = ScriptedTarget({name: float(i) for i, name in enumerate(classes)})
    components, run = explain(
        tmp_path, ScriptedModel([]), target=target, classes=classes, iterations=0, summary=False
    )
    board = [concept for concept, _ in components.runs.steps(run.id, 0)[0].board]
    assert board[:5] == ["c19", "c18", "c17", "c16", "c15"]
    assert len(board) == 10


def test_a_duplicate_is_asked_again_hotter_with_the_duplicate_named_and_costs_no_image(tmp_path):
    model = ScriptedModel(["Wolves", "the wolf", "fox"])
    generator = ScriptedGenerator()
    components, run = explain(tmp_path, model, generator=generator, iterations=2, summary=False)
    assert history(components, run) == [
        (1, 0, "scored", "wolves"),
        (2, 0, "duplicate", "wolf"),
        (2, 1, "scored", "fox"),
    ]
    assert '"wolves" was tried already' in model.asked[2][0].messages[-1].content
    assert model.asked[2][2] > model.asked[1][2]
    assert not [request for request in generator.drawn if request.concept == "wolf"]


def test_a_concept_of_the_first_board_counts_as_tried(tmp_path):
    components, run = explain(
        tmp_path, ScriptedModel(["class a", "fox"]), iterations=1, summary=False, top=12, random=0
    )
    assert history(components, run) == [(1, 0, "duplicate", "class a"), (1, 1, "scored", "fox")]


def test_after_the_last_retry_the_step_is_recorded_as_stalled_and_the_loop_goes_on(tmp_path):
    model = ScriptedModel(["fox", "fox", "foxes", "a fox", "garbage", "owl"])
    components, run = explain(tmp_path, model, iterations=3, summary=False, retries=2)
    assert [entry[:3] for entry in history(components, run)] == [
        (1, 0, "scored"),
        (2, 0, "duplicate"),
        (2, 1, "duplicate"),
        (2, 2, "duplicate"),
        (2, 3, "stalled"),
        (3, 0, "invalid"),
        (3, 1, "scored"),
    ]
    before, stalled = components.runs.steps(run.id, 0)[-7], components.runs.steps(run.id, 0)[-3]
    assert stalled.board == before.board


def test_an_unusable_reply_is_told_what_was_wrong_and_kept(tmp_path):
    model = ScriptedModel(["garbage", "fox"])
    components, run = explain(tmp_path, model, iterations=1, summary=False)
    assert "not a single JSON object" in model.asked[1][0].messages[-1].content
    assert components.runs.steps(run.id, 0)[-2].reply == "garbage"


def test_a_concept_that_nothing_can_image_is_recorded_and_asked_for_anew(tmp_path):
    model = ScriptedModel(["democracy", "fox", "owl"])
    generator = ScriptedGenerator(unknown=frozenset({"democracy"}))
    components, run = explain(tmp_path, model, generator=generator, iterations=2, summary=False)
    assert history(components, run)[:2] == [(1, 0, "not_drawable", "democracy"), (1, 1, "scored", "fox")]
    asked_again = model.asked[1][0].messages[-1].content
    assert '"democracy" cannot be pictured; near it: something else' in asked_again
    assert "democracy" in model.asked[2][0].messages[-1].content.split("Forbidden: ")[1].splitlines()[0]


def test_a_stalled_summary_ends_the_unit(tmp_path):
    model = ScriptedModel(["fox", *["fox"] * 4])
    components, run = explain(tmp_path, model, iterations=1)
    assert history(components, run)[-1] == (2, 4, "stalled", None)
    assert components.runs.units(run.id)[0].status == "finished"


def test_classes_that_cannot_be_imaged_give_way_to_the_next(tmp_path):
    generator = ScriptedGenerator(unknown=frozenset({"class a", "class b"}))
    components, run = explain(tmp_path, ScriptedModel([]), generator=generator, iterations=0, summary=False)
    steps = components.runs.steps(run.id, 0)
    assert sum(step.outcome == "scored" for step in steps) == 10
    assert {step.concept for step in steps if step.outcome == "not_drawable"} <= {"class a", "class b"}


def test_a_vocabulary_of_which_nothing_can_be_imaged_is_an_error_that_says_so(tmp_path):
    generator = ScriptedGenerator(unknown=frozenset({"class a"}))
    with pytest.raises(UsageError, match="no concept for the first board can be generated"):
        explain(tmp_path, ScriptedModel([]), generator=generator, classes=["class a"])


def test_concepts_excluded_for_a_unit_stay_off_its_first_board_only(tmp_path):
    components, run = explain(
        tmp_path,
        counting(),
        units=["0", "1"],
        iterations=0,
        summary=False,
        top=12,
        random=0,
        exclude_for={0: ("the Class A",), 1: ("class b",)},
    )
    boards = [{step.concept for step in components.runs.steps(run.id, unit)} for unit in (0, 1)]
    assert "class a" in boards[1] - boards[0]
    assert "class b" in boards[0] - boards[1]


def test_drawable_things_near_the_best_are_named_unless_they_were_tried(tmp_path):
    generator = ScriptedGenerator(hints=("fox", "owl", "crow"))
    model = ScriptedModel(["fox", "badger"])
    explain(tmp_path, model, generator=generator, iterations=2, summary=False)
    named = [
        set(request.split("for example: ")[1].splitlines()[0].split(", "))
        for request in (asked[0].messages[-1].content for asked in model.asked)
    ]
    assert named == [{"fox", "owl", "crow"}, {"owl", "crow"}]


def test_no_hints_when_they_are_switched_off(tmp_path):
    model = ScriptedModel(["fox"])
    explain(tmp_path, model, generator=ScriptedGenerator(hints=("owl",)), hints=0, iterations=1, summary=False)
    assert "Images can be made" not in model.asked[0][0].messages[-1].content


def test_a_concept_that_is_in_the_bank_costs_no_image_and_no_forward_pass(tmp_path):
    same = ["fox", "owl", "crow"]
    components, _ = explain(tmp_path, ScriptedModel(same), iterations=2, top=12, random=0)
    drawn, passes = components.cache.stats.generated, components.target.passes
    again, run = explain(tmp_path, ScriptedModel(same), units=["1"], iterations=2, top=12, random=0)
    assert (drawn, passes) == (75, 87)
    assert (again.cache.stats.generated, again.target.passes) == (0, 0)
    assert history(again, run, 1)[-1][3] == "crow"


def test_the_same_seed_gives_the_same_run_and_another_seed_other_images(tmp_path):
    runs = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        components, run = explain(tmp_path / folder, counting(), units=["0", "2"], seed=seed)
        runs.append([components.runs.steps(run.id, unit) for unit in (0, 2)])
    plain = [[(s.concept, s.score, s.images, s.board, s.removed) for s in unit] for run in runs for unit in run]
    assert plain[:2] == plain[2:4]
    assert plain[:2] != plain[4:]


@pytest.mark.parametrize("scorer", ["auc", "mad"])
def test_other_scorers_compare_with_the_control_set(tmp_path, scorer):
    target = ScriptedTarget({"fox": 100.0})
    components, run = explain(
        tmp_path, ScriptedModel(["fox"]), target=target, iterations=1, summary=False, scorer=scorer
    )
    unit = components.runs.units(run.id)[0]
    assert unit.label == "fox"
    assert unit.score == getattr(unit, scorer)
    assert unit.auc == 1.0


def test_accepted_duplicates_get_new_images(tmp_path):
    components, run = explain(
        tmp_path, ScriptedModel(["fox", "fox"]), iterations=2, summary=False, duplicates="accept"
    )
    first, second = (step for step in components.runs.steps(run.id, 0) if step.step)
    assert not set(first.images) & set(second.images)
