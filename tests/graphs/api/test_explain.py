import asyncio
import json
import re
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import BackendError, DamagedError, LineError, MissingPartError, UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.seeds import derive_seed
from line_neurons.agent.text import format_score, format_spread
from line_neurons.graphs import Interrupted, aexplain, explain, iter_explain, load
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.packages import pip_install
from line_neurons.tools.store import leases
from line_neurons.tools.store.columns import STEP_COLUMNS, UNIT_COLUMNS
from line_neurons.tools.store.runs import RunStore
from support.fake_ollama import DIGEST, MODEL, ScriptedOllama, answer, proposal, serving
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedModel

OWN_LANGUAGE_MODEL = vars(Components)["language_model"]
TRANSFORM = v2.Compose([v2.PILToTensor(), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
NAMES = ["red", "green", "blue"]


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 3)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images):
        return self.pool(self.features(images))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What every call is given; all parts but the target are instant."""
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {np.base_repr(seed, 36)}")
    monkeypatch.setattr(Components, "language_model", model)
    monkeypatch.setattr(Components, "generator", ScriptedGenerator())
    monkeypatch.setattr(Components, "control_set", ScriptedControl(tuple(f"class {one}" for one in "abcdef")))
    monkeypatch.chdir(tmp_path)
    small = {"iterations": 2, "images": 2, "top": 2, "random": 1}
    return {"transform": TRANSFORM, "store": tmp_path / "store", "progress": False, **small}


def outcome(result):
    return [
        (unit.unit, unit.status, unit.label, unit.score, [(step.concept, step.score) for step in unit.history])
        for unit in result
    ]


def test_units_of_a_module_in_memory_get_labels_and_the_module_stays_as_it_was(net, asked):
    net.train()
    result = explain(net, "features", "0-1", class_names=NAMES, **asked)
    assert (result.run.status, result.run.model, result.finished) == ("finished", "memory:Tiny", True)
    assert [unit.unit for unit in result] == [0, 1]
    assert net.training and all(one.requires_grad for one in net.parameters())
    unit = result[1]
    assert unit is result.units[1]
    assert (unit.label, unit.score) == max(unit.board, key=lambda pair: pair[1])
    assert {"scored"} == {step.outcome for step in unit.history} and unit.history[-1].reasoning
    assert len(unit.images) == 2 and unit.runner_up is not None and unit.auc is not None
    assert [one.activation is not None for one in unit.evidence()] == [True, True]


def test_an_output_unit_is_named_by_its_class(net, asked):
    result = explain(net, "pool", "Green", class_names=NAMES, **asked)
    assert result["GREEN"].unit == 1
    with pytest.raises(UsageError, match=r"has no unit 7 \(its units: 1 green\)"):
        result[7]


def test_the_same_call_again_gives_the_same_run(net, asked):
    first = explain(net, "features", [0], **asked)
    assert explain(net, "features", "0", **asked) == first
    assert explain(net, "features", [0], resume=False, **asked).run.id == "Tiny-features-2"
    assert explain(net, "features", [0], **asked | {"seed": 1}).run.id == "Tiny-features-3"


def test_what_was_done_to_the_module_since_makes_another_run(net, asked):
    before = explain(net, "features", 0, **asked)
    with torch.no_grad():
        net.features.weight[0] += 1
    after = explain(net, "features", 0, **asked)
    assert after.run.id != before.run.id and after[0].score != before[0].score
    with pytest.raises(UsageError, match=r"the target of run Tiny-features-1 has changed since it began"):
        explain(net, resume=before.run.id, **asked)


class Stop:
    """A watcher that is interrupted as by Ctrl-C, once, at a node's end."""

    def __init__(self, node, unit=0):
        self.at = (node, unit)

    def __call__(self, progress):
        if (progress.node, progress.unit) == self.at:
            self.at = None
            raise KeyboardInterrupt


@pytest.mark.parametrize("node", ["init", "propose", "score", "finished"])
def test_an_interrupted_call_keeps_what_is_done_and_the_same_call_ends_as_if_undisturbed(net, asked, node):
    undisturbed = explain(net, "features", [0, 1], **asked)
    elsewhere = asked | {"store": asked["store"].with_name("other")}
    with pytest.raises(Interrupted, match=r"the same call resumes|The same call resumes") as stopped:
        explain(net, "features", [0, 1], **elsewhere | {"progress": Stop(node)})
    so_far = stopped.value.result
    assert so_far.run.status == "interrupted" and not so_far.finished
    assert so_far == load(so_far.run.id, elsewhere["store"])
    again = explain(net, "features", [0, 1], **elsewhere)
    assert again.run.id == so_far.run.id
    assert outcome(again) == outcome(undisturbed)


def by_seed(handler, question):
    """Answer with a concept of the question's seed."""
    answer(proposal(f"thing {np.base_repr(question['options']['seed'], 36)}"))(handler, question)


@pytest.fixture
def ollama(asked, monkeypatch):
    """A scripted Ollama server; what is asked goes to it."""
    monkeypatch.setattr(Components, "language_model", OWN_LANGUAGE_MODEL)
    with serving(ScriptedOllama(by_seed)) as server:
        asked |= {"llm": f"ollama:{MODEL}", "ollama": server.url}
        yield server


def test_a_model_of_the_same_tag_with_another_digest_does_not_go_on_unsaid(net, asked, ollama):
    with pytest.raises(Interrupted) as stopped:
        explain(net, "features", 0, **asked | {"progress": Stop("score")})
    run = stopped.value.result.run
    (worked,) = [one for one in RunStore(asked["store"]).events(run.id) if one["kind"] == "worked with"]
    told = {"sha256": DIGEST, "quantisation": "Q4_K_M", "parameters": "8.0B"}
    assert worked["detail"]["made_of"]["language_model"] == told
    ollama.models = {MODEL: "f" * 64}
    own = {name: asked[name] for name in ("transform", "store", "progress", "ollama")}
    with pytest.raises(UsageError, match=f"'digest={DIGEST[:16]}' then, 'digest=ffffffffffffffff' now") as caught:
        explain(net, resume=run.id, **own)
    assert f"the language model of run {run.id} has changed" in str(caught.value)
    assert "--llm" in caught.value.remedy
    ollama.models = {MODEL: DIGEST}
    assert explain(net, resume=run.id, **own).finished


def test_a_run_from_before_all_of_the_sampling_was_sent_goes_on_without(net, asked, ollama):
    with pytest.raises(Interrupted) as stopped:
        explain(net, "features", 0, **asked | {"progress": Stop("score")})
    run, runs = stopped.value.result.run, RunStore(asked["store"])
    before = runs.run(run.id)
    settings = {name: value for name, value in before.settings.items() if name not in OLLAMA_SAMPLING}
    kept = [
        word for word in before.fingerprints["language_model"].split() if word.split("=")[0] not in OLLAMA_SAMPLING
    ]
    prints = before.fingerprints | {"language_model": " ".join(kept)}
    runs.update_run(run.id, settings=settings, fingerprints=prints)
    first = len(ollama.questions)
    own = {name: asked[name] for name in ("transform", "store", "progress", "ollama")}
    assert explain(net, resume=run.id, **own).finished
    assert first < len(ollama.questions)
    sent = [question["options"].keys() & OLLAMA_SAMPLING.keys() for question in ollama.questions]
    assert all(sent[:first]) and not any(sent[first:])
    assert runs.run(run.id).fingerprints == prints
    assert "settings changed" not in {event["kind"] for event in runs.events(run.id)}


def test_a_run_is_gone_on_with_by_its_name(net, asked):
    with pytest.raises(Interrupted) as stopped:
        explain(net, "features", [0, 1], **asked | {"progress": Stop("init")})
    run = stopped.value.result.run.id
    for wrong, said in [
        ({"layer": "pool"}, "is of the layer features"),
        ({"units": [2]}, r"has the units \[0, 1\]"),
        ({"resume": "nope"}, "'nope' is not a run"),
    ]:
        with pytest.raises(UsageError, match=said):
            explain(net, **{"resume": run} | asked | wrong)
    with pytest.raises(UsageError, match=r"memory:Tiny, not of memory:Conv2d"):
        explain(net.features, resume=run, **asked)
    assert explain(net, resume=run, **asked).finished


def test_the_command_says_that_the_model_lived_in_memory(net, asked, line):
    with pytest.raises(Interrupted):
        explain(net, "features", [0, 1], **asked | {"progress": Stop("init")})
    status, _, err = line("resume", "Tiny-features-1")
    assert status == 2 and "lived in the memory of a Python session" in err and "resume='Tiny-features-1'" in err
    status, out, _ = line("show", "Tiny-features-1")
    assert status == 0 and "continue in Python: explain(model, resume='Tiny-features-1')" in " ".join(out.split())
    status, _, err = line("explain", "memory:Tiny", "features", "0")
    assert status == 2 and "the model memory:Tiny lives in the memory of a Python session" in err


def test_units_come_as_they_are_finished_and_nothing_goes_on_meanwhile(net, asked):
    seen = []
    for unit in iter_explain(net, "features", [2, 0], **asked):
        seen.append((unit.unit, [one.status for one in load(unit.run, asked["store"])]))
    assert seen == [(2, ["finished", "pending"]), (0, ["finished", "finished"])]
    assert [unit.unit for unit in iter_explain(net, "features", [2, 0], **asked)] == [2, 0]


def test_a_loop_that_is_left_is_gone_on_with_even_while_something_holds_it(net, asked):
    held = iter_explain(net, "features", [0, 1, 2], **asked)
    assert next(held).unit == 0
    assert [unit.unit for unit in iter_explain(net, "features", [0, 1, 2], **asked)] == [0, 1, 2]
    held.close()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("run ")]


def test_leaving_a_loop_lets_the_run_be_interrupted(net, asked):
    for _unit in iter_explain(net, "features", [0, 1], **asked):
        break
    assert load("Tiny", asked["store"]).run.status == "interrupted"


def test_both_forms_work_in_an_event_loop(net, asked):
    async def ask():
        awaited = await aexplain(net, "features", [0], **asked)
        return awaited, explain(net, "features", [0], **asked)

    awaited, plain = asyncio.run(ask())
    assert awaited == plain and awaited.finished


def test_a_cancelled_task_keeps_what_is_done(net, asked):
    async def ask():
        reached = asyncio.Event()

        def told(progress):
            if progress.node == "init":
                reached.set()

        task = asyncio.create_task(aexplain(net, "features", [0, 1], **asked | {"progress": told}))
        await reached.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask())
    assert load("Tiny-features-1", asked["store"]).run.status == "interrupted"
    assert explain(net, "features", [0, 1], **asked).run.id == "Tiny-features-1"


def test_a_stop_from_another_process_ends_the_call_too(net, asked, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)

    def ask(progress):
        if progress.node == "init":
            runs = RunStore(asked["store"])
            with runs.atomic() as db:
                db.execute("UPDATE leases SET stop = 'process 1 on lab'")

    with pytest.raises(Interrupted, match=r"asked to stop by process 1 on lab with 0 of 1 units done"):
        explain(net, "features", [0], **asked | {"progress": ask, "iterations": 1000})


def test_a_failed_unit_says_why_and_the_same_call_takes_it_again(net, asked, monkeypatch):
    works = Components.language_model
    seeds = {derive_seed("ask", 0, 1, step, 0) for step in range(9)}

    def answer(prompt, seed, temperature):
        if seed in seeds:
            raise BackendError("the server is gone", "start it")
        return works.script(prompt, seed, temperature)

    monkeypatch.setattr(Components, "language_model", ScriptedModel(answer))
    result = explain(net, "features", [0, 1], **asked | {"max_consecutive_failures": 5})
    assert [(unit.status, unit.error) for unit in result] == [
        ("finished", ""),
        ("failed", "the server is gone (start it)"),
    ]
    assert "failed, the server is gone" in repr(result) and "the server is gone" in result._repr_html_()
    with pytest.raises(BackendError, match=r"start it; then the same call resumes"):
        explain(net, "features", [1], **asked)
    monkeypatch.setattr(Components, "language_model", works)
    done = explain(net, "features", [0, 1], **asked | {"max_consecutive_failures": 5})
    assert done.finished
    # The setting's earlier name is of the same run.
    assert explain(net, "features", [0, 1], **asked | {"give_up": 5}).run.id == done.run.id


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iteration": 3}, r"no setting 'iteration'; near: iterations"),
        ({"iterations": -1}, r"setting iterations = -1"),
        ({"transform": None}, r"the preprocessing of memory:Tiny is not known \(give transform="),
        ({"transform": "photo"}, r"transform is 'photo'"),
        ({"transform": 3}, "transform is int"),
        ({"class_names": "red"}, r"class_names is str"),
        ({"units": [3]}, r"unit 3 is not one of this layer's"),
        ({"units": None}, r"no layer or no units"),
        ({"layer": "feature"}, r"has no layer 'feature'"),
        ({"weights": "w.pth"}, r"are not for a model in memory"),
        ({"model": 5}, r"the model is int"),
        ({"model": "torchvision:mobilenet_v2"}, r"brings its own preprocessing"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_and_nothing_is_written(net, asked, changed, said):
    with pytest.raises(LineError, match=said) as refused:
        explain(**{"model": net, "layer": "features", "units": [0]} | asked | changed)
    assert "\n" not in str(refused.value)
    assert refused.value._render_traceback_() == [f"{type(refused.value).__name__}: {refused.value}"]
    assert not (asked["store"] / "runs.db").exists() or not RunStore(asked["store"]).names()


def test_what_is_not_in_a_store_is_said(asked, net):
    with pytest.raises(UsageError, match="there are no runs in"):
        load("any", asked["store"])
    explain(net, "features", [0], **asked)
    with pytest.raises(UsageError, match="'any' is not a run of this store"):
        load("any", asked["store"])


def test_frames_have_a_row_for_each_unit_and_for_each_step(net, asked):
    result = explain(net, "features", [0, 2], **asked)
    units, steps = result.frame(), result.steps_frame()
    assert list(units) == list(UNIT_COLUMNS) and list(steps) == list(STEP_COLUMNS)
    assert list(units.unit) == [0, 2] and units.label[1] == result[2].label
    assert units.score.sum() == sum(unit.score for unit in result)
    assert len(steps) == sum(len(unit.history) for unit in result)
    assert str(units.found_by.dtype) == "Int64" and units.found_by.isna().all()


def test_every_score_has_the_standard_error_of_its_activations(net, asked):
    result = explain(net, "features", [0, 2], **asked)
    activations = [image.activation for image in result[2].evidence()]
    assert result[2].spread == pytest.approx(np.std(activations, ddof=1) / len(activations) ** 0.5, rel=1e-6)
    scored = [step for step in result[2].history if step.score is not None]
    assert all(result[2].spread_of(step) is not None for step in scored)
    assert list(result.frame().spread) == [unit.spread for unit in result]
    assert result.steps_frame().spread.notna().sum() == result.steps_frame().score.notna().sum()
    assert f"{format_score(result[2].score)} {format_spread(result[2].spread)}" in repr(result)
    assert result._repr_html_().count("±") == 2
    assert result[2]._repr_html_().count("±") == 1 + len(scored)
    (asked["store"] / "bank.db").rename(asked["store"] / "gone.db")
    lost = load(result.run.id, asked["store"])
    assert lost[2].spread is None and lost.frame().spread.isna().all() and "± ?" in repr(lost)


def test_frames_without_pandas_say_what_to_install(net, asked, monkeypatch):
    result = explain(net, "features", [0], **asked)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPartError, match=re.escape(pip_install("notebook"))):
        result.frame()


def test_texts_of_a_store_are_no_markup_in_a_notebook(net, asked):
    result = explain(net, "features", [0], **asked)
    runs = RunStore(asked["store"])
    evil = "<script>alert(1)</script>\x1b[2J"
    runs.update_unit(result.run.id, 0, label=evil, name=evil, second_label=evil, second_score=1.0, error=evil)
    with runs.atomic() as db:
        db.execute("UPDATE steps SET reasoning = ?, concept = ?", [evil, evil])
    changed = result.refresh()
    for page in (changed._repr_html_(), changed[0]._repr_html_()):
        assert "<script" not in page and "\x1b" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in repr(changed)


def test_a_image_that_has_gone_is_told_where_it_would_be(net, asked):
    result = explain(net, "features", [0], **asked)
    lost = result[0].images[0]
    (asked["store"] / "images" / lost[:2] / f"{lost}.png").unlink()
    assert "the image has gone" in result._repr_html_()
    with pytest.raises(DamagedError, match=f"the image {lost[:12]} has gone"):
        result[0].pil_images  # noqa: B018


def test_a_whole_layer_is_shown_in_part(net, asked, monkeypatch):
    monkeypatch.setattr("line_neurons.graphs.api.notebook.UNITS_SHOWN", 2)
    page = explain(net, "features", "all", **asked)._repr_html_()
    assert page.count("<tr><td>") == 2 and "and 1 more units" in page


def test_where_no_line_can_be_written_over_each_unit_is_told_once(net, asked, capsys):
    explain(net, "pool", [0, 2], class_names=["red", "green", "<b>\x1b[2J"], **asked | {"progress": True})
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if ": done, best " in line] == told[-3:-1]
    assert told[-2].startswith("2 of 2 units · unit 2 <b> [2J: done") and "\x1b" not in "".join(told)
    assert told[-1].startswith("run Tiny-pool-1: 2 of 2 units done, ")


def test_the_record_says_how_the_run_was_begun(net, asked):
    secret = {"ollama": "http://me:secret@gpu:11434"}
    run = explain(net, "features", [0], **asked | secret).run
    assert run.command.startswith("explain('memory:Tiny', 'features', ['0'], store=") and "seed" not in run.command
    assert "secret" not in json.dumps([run.command, run.settings])


def test_a_preset_is_taken_as_on_the_command_line(net, asked):
    small = asked | {"generator": "bank", "control": "bank", "iterations": 0, "summary": False}
    run = explain(net, "features", [0], preset="paper", **small).run
    assert (run.settings["hints"], run.settings["duplicates"], run.settings["iterations"]) == (0, "overwrite", 0)
    assert "preset='paper'" in run.command
