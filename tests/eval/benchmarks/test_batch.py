import json

import pytest

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.prompts import image_requests, propose_prompt
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.eval.benchmarks import batch, busy_generator, busy_workers, patience_cost, wall_time
from line_neurons.eval.benchmarks import generated_images as drawn_images
from line_neurons.eval.benchmarks.graph_steps import run_instant
from line_neurons.eval.benchmarks.instant import LAYER, batches, latency
from line_neurons.eval.benchmarks.metering import Clock, Figure, MeteredGenerator, MeteredModel, covered, show
from line_neurons.eval.benchmarks.real_components import MODIFIERS, NearWords, near_words
from line_neurons.eval.benchmarks.wall_time import StatelessModel
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import ScriptedGenerator, ScriptedModel, scripted_components

CLASSES = tuple(f"class {letter}" for letter in "abcdefghijkl")
UNITS = 3


def words(prompt, seed, temperature):
    """A model of few words, so that units propose the same ones; of them, none that this unit has tried."""
    request = prompt.messages[-1].content
    fresh = [f"thing {letter}" for letter in "abcdefgh" if f"thing {letter}" not in request]
    return fresh[seed % len(fresh)]


@pytest.fixture
def opened():
    def opened(store, **settings):
        given = {"iterations": 3, "max_concurrent_units": 2, "revisit": True, "seed": 3} | settings
        return scripted_components(store, ScriptedModel(words), classes=CLASSES, **given)

    return opened


def figures(found):
    return {one.what: one for one in found if isinstance(one, Figure)}


def test_images_are_counted_for_the_batch_and_its_first_units_against_one_unit_at_a_time(tmp_path, opened):
    found = figures(drawn_images.compare(opened, LAYER, [1, UNITS], tmp_path / "batch"))

    alone = []
    for unit in range(UNITS):
        components = opened(tmp_path / f"alone {unit}", max_concurrent_units=1, revisit=False)
        work(components, start(components, LAYER, [str(unit)]))
        alone.append(len(components.generator.drawn))
    together = opened(tmp_path / "together")
    work(together, start(together, LAYER, [f"0-{UNITS - 1}"]))
    drawn = len(together.generator.drawn)
    assert drawn < sum(alone)
    assert found[f"images of {UNITS} units, of the reference's"].value == drawn / sum(alone)
    assert found["images of 1 units, of the reference's"].value == 1
    assert found[f"images of {UNITS} units, of the reference's"].n == UNITS


def test_the_reference_draws_everything_anew_for_each_unit_and_its_labels_are_never_better(tmp_path, opened):
    found = figures(
        wall_time.compare(
            opened,
            LAYER,
            UNITS,
            tmp_path,
            reference_units=UNITS,
            same_threads=True,
            keeping={"nothing": 1, "each": 2},
        )
    )

    batch, reference = found["wall time of the batch"], found["wall time of the reference"]
    steps = UNITS * (3 + 1)
    assert f"{steps} requests" in batch.detail
    assert f"{steps} requests, {(UNITS * 10 + steps) * 5} images" in reference.detail
    assert found["labels that score worse in the batch"].value == 0
    assert sum(one.value for what, one in found.items() if what.startswith("labels that score")) == UNITS
    assert found["wall time of the batch, of the reference's"].n == UNITS
    others = [one for what, one in found.items() if "of a reference's that keeps" in what]
    assert [one.n for one in others] == [UNITS, UNITS]
    assert [one.detail.partition(", ")[2] for one in others] == ["measured on 1", "measured on 2"]


def test_a_reference_of_fewer_units_is_scaled_and_says_so(tmp_path, opened):
    found = figures(wall_time.compare(opened, LAYER, UNITS, tmp_path, reference_units=1, batch_first=True))

    (name,) = (what for what in found if what.startswith("wall time of the reference"))
    assert "scaled" in name
    assert found[name].n == 1
    ratio = found["wall time of the batch, of the reference's"]
    assert ratio.value == pytest.approx(found["wall time of the batch"].value / found[name].value)


def test_labels_are_compared_unit_by_unit():
    found = figures(
        wall_time.labels_compared(
            {0: ("cat", 2.0), 1: ("dog", 1.0), 2: ("fox", 1.0), 3: ("owl", 9.0)},
            {0: ("fox", 1.0), 1: ("cow", 1.0), 2: ("hen", 1.5)},
        )
    )

    assert [one.value for one in found.values()] == [1, 1, 1]
    assert {one.n for one in found.values()} == {3}


def test_without_kept_state_the_model_is_asked_the_same_with_nothing_marked_as_shared():
    asked = []

    def note(prompt, seed, temperature):
        asked.append((prompt, seed, temperature))
        return "cat"

    prompt = Prompt((Message("system", "Name it."), Message("user", "Now.")), shared=1)
    StatelessModel(ScriptedModel(note)).propose(prompt, seed=4, temperature=0.5)

    assert asked == [(Prompt(prompt.messages, shared=0), 4, 0.5)]


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([], 0),
        ([(0, 20)], 1),
        ([(9, 11), (12, 13)], 0.2),
        ([(12, 14), (13, 15)], 0.3),
        ([(12, 18), (13, 14), (19, 30)], 0.7),
    ],
)
def test_the_covered_share_counts_each_moment_of_the_window_once(spans, share):
    assert covered(spans, (10, 20)) == pytest.approx(share)


def test_the_slow_generator_takes_50_ms_for_one_image_and_80_for_a_full_batch():
    assert latency(1) == 0.05
    assert latency(8) == pytest.approx(0.08)
    assert batches(21, 8) == [8, 8, 5]
    assert batches(16, 8) == [8, 8]


def test_meters_count_and_alter_nothing():
    generator, model = MeteredGenerator(ScriptedGenerator(hints=("cat",))), MeteredModel(ScriptedModel(["owl"]))
    requests = image_requests("dog", 3, 0)

    assert generator.synthesize(requests) == ScriptedGenerator().synthesize(requests)
    assert model.propose(Prompt(()), seed=1, temperature=0).concept == "owl"
    assert generator.suggest(["dog"], 1) == ["cat"]
    assert (generator.images, model.requests) == (3, 1)
    assert generator.images_in(generator.spans[0]) == 3


def test_a_clock_counts_nodes_and_knows_when_a_share_of_the_units_was_finished(tmp_path, opened):
    components, clock = opened(tmp_path), Clock(UNITS)
    work(components, start(components, LAYER, [f"0-{UNITS - 1}"]), clock)

    steps = UNITS * (3 + 1)
    assert clock.nodes["init"] == UNITS
    assert {clock.nodes[node] for node in ("synthesize", "activate", "score", "update")} == {steps}
    assert [count for _, count in clock.finished] == [1, 2, 3]
    assert clock.reached(0.5) == clock.finished[1][0]


def test_the_generator_of_a_warm_batch_is_measured_over_its_middle(tmp_path, opened):
    components = opened(tmp_path)
    generator, model = MeteredGenerator(components.generator), MeteredModel(components.language_model)
    components = components.with_(generator=generator, language_model=model)

    found = figures(busy_generator.run_warm(components, generator, model, UNITS, images_alone=2.0))

    assert 0 <= found["share of time in which the generator works"].value <= 1
    rate = found["images a second"].value
    assert found["images a second in the batch, of the generator's alone"].value == rate / 2


def test_steps_of_instant_graphs_are_counted_with_memory_and_store(tmp_path):
    went = run_instant(4, tmp_path, iterations=2, max_concurrent_units=2, words=0)

    assert (went.units, went.steps, went.nodes) == (4, 4 * 3, 4 + 4 * 3 * 5)
    proposed = 4 * 3 * 5
    assert proposed < went.images <= proposed + 20 * 5
    assert went.peak >= went.early > 0
    assert went.store > 0


def test_workers_that_sleep_are_measured_over_the_middle_of_a_batch(tmp_path):
    # Images that take no time may all be there before the first unit has ended, when the middle begins.
    went = busy_workers.run_workers(2, tmp_path, seconds=0.02, size=1000, units=4)

    assert went.workers == 2
    assert 0 < went.busy <= 1
    assert went.images > 0
    assert went.peak > 0


def test_patience_is_compared_with_the_same_units_without_it(tmp_path, opened):
    components = opened(tmp_path, iterations=6)
    run = work(components, start(components, LAYER, [f"0-{UNITS - 1}"]))
    whole = patience_cost.effort(components.runs, run.id, components.runs.units(run.id))
    assert whole.requests == len(components.language_model.asked)
    assert whole.images == UNITS * (10 + 6 + 1) * 5

    found = figures(patience_cost.compare(opened(tmp_path, iterations=6, patience=1), run))

    saved = found["patience 1, restarts 0: requests, of those without"]
    assert saved.value < 1
    assert saved.detail.endswith(f"of {whole.requests}")
    assert found["patience 1, restarts 0: labels that changed"].n == UNITS


def test_a_run_with_patience_of_its_own_is_no_measure_of_patience(tmp_path, opened):
    components = opened(tmp_path, patience=1)
    run = work(components, start(components, LAYER, ["0"]))

    with pytest.raises(UsageError, match="has patience"):
        list(patience_cost.compare(components, run))


def near(board, forbidden=(), drawable=(), composed=0.5, seed=0):
    entries = tuple(Entry(concept, float(10 - place)) for place, concept in enumerate(board))
    prompt = propose_prompt(Scoreboard(entries, 10), forbidden, drawable)
    return parse_reply(NearWords(composed).complete(prompt, seed=seed, temperature=0.5).text).concept


def test_near_words_names_what_is_near_or_puts_a_modifier_to_the_best():
    named = {near(["cat"], drawable=["lynx", "puma"], composed=0, seed=seed) for seed in range(20)}
    assert named == {"lynx", "puma"}
    composed = {near(["cat", "dog"], ["red cat"], ["lynx"], composed=1, seed=seed) for seed in range(200)}
    assert all(phrase.split()[0] in MODIFIERS for phrase in composed)
    assert {phrase.split()[1] for phrase in composed} == {"cat", "dog", "lynx"}
    assert concept_key("red cat") not in {concept_key(phrase) for phrase in composed}


@pytest.mark.parametrize("share", ["2", "-1", "much", "nan"])
def test_a_share_of_composed_phrases_that_is_none_is_refused(share):
    with pytest.raises(UsageError, match="is not from 0 to 1"):
        near_words(f"near:{share}")


def test_figures_are_printed_with_what_they_were_measured_on_and_kept_as_json(tmp_path, capsys):
    figure = Figure("ratio", 0.25, 1200, aim="at most 0.6", detail="1 of 4")

    show(iter(["How.", figure]), tmp_path / "figures.json")

    assert capsys.readouterr().out == "How.\nratio: 0.25 (n = 1,200 units; aim at most 0.6; 1 of 4)\n"
    kept = json.loads((tmp_path / "figures.json").read_text())
    assert (kept["remarks"], kept["figures"][0]["value"]) == (["How."], 0.25)


def test_the_command_measures_a_part(tmp_path, capsys):
    assert batch.main(["steps", "--units", "2", "--iterations", "1", "--max-concurrent-units", "2"]) == 0

    assert "graph steps a second" in capsys.readouterr().out


def test_the_path_of_an_image_is_measured_by_stage_and_as_a_whole(capsys):
    few = ["--sizes", "64", "--concepts", "3", "--images", "2", "--callers", "2", "--repeat", "1"]
    assert batch.main(["path", *few]) == 0
    shown = capsys.readouterr().out
    assert "64 px, encoding as PNG, level 1, as kept: " in shown
    assert "64 px, whole path: " in shown and "(n = 6 images; 2 units at a time)" in shown


def test_a_control_set_is_measured_beside_a_data_loader(capsys):
    assert batch.main(["control", "--images", "12", "--workers", "0", "--repeat", "1"]) == 0
    shown = capsys.readouterr().out
    assert "control activations: " in shown and "ImageFolder, DataLoader of 0 workers: " in shown
    assert "relative to the DataLoader's: " in shown


def test_full_size_images_without_a_gpu_are_refused(capsys):
    assert batch.main(["gpu", "--device", "cpu"]) == 2

    assert "try it with --tiny" in capsys.readouterr().err


def test_tiny_networks_are_measured_without_a_gpu(capsys):
    few = ["--units", "2", "--iterations", "0", "--images", "1", "--board", "1"]
    small = ["--batch", "2", "--steps", "1", "--repeat", "1"]
    assert batch.main(["gpu", "--tiny", "--device", "cpu", *few, *small]) == 0

    assert "of the generator's alone" in capsys.readouterr().out


def test_a_folder_with_something_in_it_is_not_measured_in(tmp_path, capsys):
    (tmp_path / "bank.db").touch()

    assert batch.main(["busy", "--units", "2", "--store", str(tmp_path)]) == 2

    assert "is not empty" in capsys.readouterr().err
