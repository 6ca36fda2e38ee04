"""What became of steering commands, as users see it."""

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.steering.outcomes import outcomes
from line_neurons.tools.store.steering_queue import commands, submit, withdraw_from
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components


def searched(store, sent, **options):
    """A finished run, the commands of which were sent before it began."""
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    target = ScriptedTarget({"red fox": 9.0, "mud": -9.0})
    components = scripted_components(store, model, target=target, iterations=3, images=1, **options)
    run = start(components, LAYER, ["0"])
    for kind, concept in sent:
        submit(store, run.id, 0, kind, concept)
    return components, work(components, run)


def told(components, run):
    rows = outcomes(commands(components.runs, run.id, 0), components.runs.steps(run.id, 0))
    return [(row.state, row.text) for row in rows]


def test_a_suggested_concept_has_its_score_or_why_it_has_none(tmp_path):
    generator = ScriptedGenerator(unknown=frozenset({"democracy"}))
    sent = [("try", "red fox"), ("try", "democracy"), ("try", "mud")]
    scored, refused, low = told(*searched(tmp_path, sent, generator=generator))
    assert scored == ("applied", "scored 9 at step 1")
    assert refused[0] == "refused"
    assert '"democracy" cannot be generated' in refused[1]
    assert low[0] == "applied"
    assert low[1].startswith("scored -9 at step ")


def test_a_concept_that_is_suggested_twice_has_two_outcomes(tmp_path):
    components, run = searched(tmp_path, [("try", "red fox")], duplicates="accept")
    submit(tmp_path, run.id, 0, "try", "red foxes")
    assert [state for state, _ in told(components, run)] == ["applied", "waiting"]
    work(components, run)
    first, second = told(components, run)
    assert first != second
    assert second[1].startswith("scored 9 at step")


def test_a_concept_that_is_banned_before_its_turn_is_refused(tmp_path):
    components, run = searched(tmp_path, [("try", "owl"), ("ban", "owls"), ("unban", "owl")])
    assert told(components, run) == [
        ("refused", "it was banned before it was tried"),
        ("applied", "banned"),
        ("applied", "no longer banned"),
    ]


def test_a_proposal_that_is_discarded_is_withdrawn(tmp_path):
    components, run = searched(tmp_path, [])
    submit(tmp_path, run.id, 0, "try", "owl")

    def watch(progress):
        if progress.node == "propose" and len(commands(components.runs, run.id, 0)) == 1:
            submit(tmp_path, run.id, 0, "again")

    work(components, run, watch)
    assert told(components, run)[0] == ("withdrawn", "its proposal was discarded at step 5")


def test_waiting_withdrawn_refused_and_outdated_commands_are_told_apart(tmp_path):
    components, run = searched(tmp_path, [])
    label = components.runs.units(run.id)[0].label
    submit(tmp_path, run.id, 0, "pin", label)
    submit(tmp_path, run.id, 0, "ban", "owl")
    withdraw_from(tmp_path, run.id, 0, commands(components.runs, run.id, 0)[-1].id)
    work(components, run)
    submit(tmp_path, run.id, 0, "again")
    pinned, withdrawn, waiting = told(components, run)
    assert pinned == ("outdated", "the search had ended; pinned, which counts if it continues")
    assert withdrawn[0] == "withdrawn"
    assert withdrawn[1].startswith("by ")
    assert waiting == ("waiting", "")
    work(components, run)
    assert told(components, run)[0] == ("applied", "the search had ended, and continued")


def test_a_command_that_can_change_nothing_any_more_is_refused_with_the_reason(tmp_path):
    components, run = searched(tmp_path, [])
    (label, *others) = dict.fromkeys(step.concept for step in components.runs.steps(run.id, 0) if step.concept)
    for concept in (label, *others):
        submit(tmp_path, run.id, 0, "ban", concept)
    work(components, run)
    assert told(components, run)[-1] == ("refused", "nothing else was scored yet")
