"""A run handed from one machine to another: what arrives is what was there, and nothing else is let in."""

import base64
import hashlib
import io
import json
import pickle
import re
import shutil
import sqlite3
import stat
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import ormsgpack
import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.ports import LayerInfo
from line_neurons.eval.exchange import bundle_import as importing
from line_neurons.eval.exchange.bundle_import import import_bundle
from line_neurons.eval.exchange.export import export
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.doctor.store import check
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands, submit
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, outcome, scripted_components
from support.full_checkpoints import keep_results_of_nodes
from support.released_stores import FINISHED, old_store
from support.store_factory import at_work

RUN = "model-head-1"


def components_for(store, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 997}")
    given = {"iterations": 3, "top": 2, "random": 2, "images": 2, "target": ScriptedTarget({"class a": 0.6})}
    return scripted_components(store, model, **given | options)


def begun(store, **options):
    components = components_for(store, **options)
    return components, start(components, LAYER, ["0-2"])


def stopped(components, run, node="score", step=2, unit=1, then=lambda: None):
    """Work on a run up to the end of a node of a unit."""
    drain = RunControl()

    def watch(progress):
        if (progress.unit, progress.node, progress.step) == (unit, node, step):
            then()
            drain.request_drain("test")

    work(components, run, watch, drain)


def found(store, run=RUN):
    return outcome(components_for(store), run)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the run comes to when nothing interrupts it, with and without what somebody asked meanwhile."""
    outcomes = {}
    for asked in (False, True):
        components, run = begun(tmp_path_factory.mktemp("whole"))
        stopped(components, run)
        if asked:
            submit(components.store, run.id, 1, "try", "red fox")
        outcomes[asked] = outcome(components_for(components.store), work(components, run).id)
    return outcomes


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A store whose run was interrupted: one unit done, one amid a step, one not begun."""
    store = tmp_path_factory.mktemp("half") / "store"
    components, run = begun(store)
    stopped(components, run)
    components.runs.close()
    components.cache.close()
    keep_results_of_nodes(store)
    return store


@pytest.fixture(scope="module")
def handed(half):
    """The bundle of that run."""
    return export(half, RUN, "bundle", half.parent / "run.zip").path


def test_an_imported_run_is_the_one_that_was_exported(half, handed, tmp_path):
    store = tmp_path / "new"
    done = import_bundle(store, handed)
    assert (done.run, done.new, done.lost_images) == (RUN, True, 0)
    assert found(store) == found(half)
    assert check(store, deep=True) == []
    again = export(store, RUN, "bundle", tmp_path / "again.zip").path
    assert files_of(again) == files_of(handed)
    assert export(store, RUN, "bundle", tmp_path / "third.zip").path.read_bytes() == again.read_bytes()


def files_of(bundle):
    """The files of a bundle, but for that which tells where it was."""
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist()) - {"provenance.json", "manifest.json"}
        return {name: archive.read(name) for name in names}


def test_an_interrupted_run_ends_elsewhere_as_the_uninterrupted_one(handed, uninterrupted, tmp_path):
    import_bundle(tmp_path / "new", handed)
    components = components_for(tmp_path / "new")
    assert work(components, components.runs.run(RUN)).status == "finished"
    assert outcome(components, RUN) == uninterrupted[False]


def test_what_was_measured_where_it_comes_from_is_not_done_again(handed, tmp_path):
    import_bundle(tmp_path / "new", handed)
    components = components_for(tmp_path / "new")
    drawn_before = {prompt for (prompt,) in components.cache._folder.db.execute("SELECT prompt FROM draws")}
    work(components, components.runs.run(RUN))
    assert not drawn_before & {request.prompt for request in components.generator.drawn}
    assert components.cache.stats.forwarded == len(components.generator.drawn)


def test_beside_another_run_of_its_name_it_gets_a_free_one_and_ends_as_it_would(half, uninterrupted, tmp_path):
    old, store = tmp_path / "old", tmp_path / "new"
    # So that the wish's number is another one here.
    other, run = begun(store)
    submit(store, RUN, 1, "ban", "class b")
    work(other, run)
    before = found(store)
    shutil.copytree(half, old)
    submit(old, RUN, 1, "try", "red fox")
    components = components_for(old)
    stopped(components, components.runs.run(RUN), "synthesize", 3)
    (wish,) = commands(components.runs, RUN, 1)
    assert wish.applied
    done = import_bundle(store, export(old, RUN, "bundle", tmp_path / "run.zip").path)
    assert (done.run, done.before) == ("model-head-2", RUN)
    components = components_for(store)
    work(components, components.runs.run(done.run))
    assert outcome(components, done.run) == uninterrupted[True]
    (wish,) = commands(components.runs, done.run, 1)
    assert (wish.id, wish.concept, wish.applied) == (2, "red fox", True)
    assert found(store) == before


def test_importing_twice_changes_nothing_under_either_name(half, handed, tmp_path):
    store = tmp_path / "new"
    work(*begun(store))
    first = import_bundle(store, handed)
    assert first.run == "model-head-2"
    here = RunStore(store).rows("SELECT count(*), max(id) FROM events"), RunStore(store).names()
    assert import_bundle(store, handed) == importing.ImportResult("model-head-2", RUN, False, 0)
    assert here == (RunStore(store).rows("SELECT count(*), max(id) FROM events"), RunStore(store).names())
    components = components_for(store)
    work(components, components.runs.run(first.run))
    assert not import_bundle(store, handed).new
    # Where it comes from nothing was imported, and still it is there.
    assert import_bundle(half, handed) == importing.ImportResult(RUN, RUN, False, 0)


def test_a_run_that_is_worked_on_is_handed_over_as_it_is_at_that_moment(uninterrupted, tmp_path):
    components, run = begun(tmp_path / "old")
    bundle = tmp_path / "amid.zip"
    stopped(components, run, "activate", 3, then=lambda: export(tmp_path / "old", RUN, "bundle", bundle))
    done = import_bundle(tmp_path / "new", bundle)
    components = components_for(tmp_path / "new")
    here = components.runs.run(done.run)
    assert (here.status, components.runs.states(done.run)) == (
        "interrupted",
        {"finished": 1, "interrupted": 1, "pending": 1},
    )
    work(components, here)
    assert outcome(components, done.run) == uninterrupted[False]


def test_an_imported_run_can_be_forked_from_any_step(handed, tmp_path):
    import_bundle(tmp_path / "new", handed)
    components = components_for(tmp_path / "new")
    new = fork(components, components.runs.run(RUN), 0, 1, concept="red fox")
    work(components, new)
    concepts = [step.concept for step in components.runs.steps(new.id, 0) if step.kind == "iteration"]
    assert concepts[1] == "red fox"


def test_a_run_of_an_earlier_version_is_exported_without_changing_its_store(tmp_path):
    old = old_store(tmp_path / "old", "m003")
    before = (old / "runs.db").read_bytes()
    bundle = export(old, FINISHED, "bundle", tmp_path / "run.zip").path
    assert (old / "runs.db").read_bytes() == before
    with pytest.raises(UsageError, match="is no PNG file"):
        # The images of that store are none; every other check has passed.
        import_bundle(tmp_path / "new", bundle)


def test_lost_images_are_told_and_drawn_anew_where_they_are_needed(half, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    gone = next((old / "images").rglob("*.png"))
    gone.unlink()
    done = export(old, RUN, "bundle", tmp_path / "run.zip")
    assert done.lacks == "1 images"
    assert import_bundle(tmp_path / "new", done.path).lost_images == 1


def test_what_fails_while_it_is_written_leaves_no_run(handed, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing.threads, "write_rows", full)
    with pytest.raises(StoreError, match="No space"):
        import_bundle(tmp_path / "new", handed)
    assert RunStore(tmp_path / "new").names() == []
    assert check(tmp_path / "new") == []
    monkeypatch.undo()
    assert import_bundle(tmp_path / "new", handed).new


def test_code_that_somebody_vouched_for_elsewhere_is_vouched_for_by_nobody_here(half, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    with closing(RunStore(old)) as runs:
        runs.add_event(RUN, "own code vouched for", seal="s")
    import_bundle(tmp_path / "new", export(old, RUN, "bundle", tmp_path / "run.zip").path)
    kinds = {event["kind"] for event in RunStore(tmp_path / "new").events(RUN)}
    assert "own code vouched for" not in kinds
    assert "imported" in kinds


# What somebody may have done to a bundle. Each gets its files by name and its manifest, and changes them; then the
# hashes are made right.


def _rows(files, name):
    return [json.loads(line) for line in files[name].splitlines()]


def _with(files, name, change):
    rows = _rows(files, name)
    change(rows)
    files[name] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _first(name, **values):
    return lambda files, manifest: _with(files, name, lambda rows: rows[0].update(values))


def _text(name, before, after):
    return lambda files, manifest: files.update({name: files[name].replace(before, after)})


def _image(files):
    return next(name for name in files if name.startswith("images/"))


def _other_image(files, manifest):
    files[_image(files)] += b"x"


def _foreign_image(files, manifest):
    content = b"\x89PNG\r\n\x1a\n of no step"
    files[f"images/{hashlib.sha256(content).hexdigest()}.png"] = content


def _infinite(files, manifest):
    files["activations.f32"] = np.float32(np.inf).tobytes() + files["activations.f32"][4:]


def _control(**arrays):
    def change(files, manifest):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        files[next(name for name in files if name.startswith("controls/"))] = stream.getvalue()

    return change


def _msgpack(value):
    return {"type": "msgpack", "data": base64.b64encode(ormsgpack.packb(value)).decode()}


def _header(shape):
    """Control activations whose header claims a shape that no file could hold."""

    def change(files, manifest):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as arrays:
            for name, kind in (("labels", "<i8"), ("activations", "<f4")):
                array = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    array, {"descr": kind, "fortran_order": False, "shape": shape[: 1 if name == "labels" else 2]}
                )
                arrays.writestr(f"{name}.npy", array.getvalue())
        files[next(name for name in files if name.startswith("controls/"))] = stream.getvalue()

    return change


def _twice(name):
    return lambda files, manifest: _with(files, name, lambda rows: rows.append(rows[0]))


def _vector_twice(files, manifest):
    _twice("activations.jsonl")(files, manifest)
    files["activations.f32"] += files["activations.f32"][:12]


def _another_unit(number):
    return lambda files, manifest: _with(files, "units.jsonl", lambda rows: rows[-1].update(unit=number))


def _run(**values):
    return _first("run.json", **values)


def _setting(name, value):
    return lambda files, manifest: _with(files, "run.json", lambda rows: rows[0]["settings"].update({name: value}))


def _state(**values):
    """The last checkpoint with other values."""

    def change(rows):
        checkpoint = ormsgpack.unpackb(base64.b64decode(rows[-1]["data"]))
        checkpoint["channel_values"].update(values)
        rows[-1].update(_msgpack(checkpoint))

    return lambda files, manifest: _with(files, "checkpoints.jsonl", change)


PICKLED = {"type": "pickle", "data": base64.b64encode(pickle.dumps({"channel_values": {}})).decode()}
EXTENSION = _msgpack(ormsgpack.Ext(0, ormsgpack.packb(("os", "mkdir", "here"))))
HOSTILE = {
    "another schema": (lambda files, manifest: manifest.update(schema="line-neurons/bundle/2"), "its schema is"),
    "no schema": (lambda files, manifest: manifest.clear(), "its schema is None"),
    "a manifest of more": (lambda files, manifest: manifest.update(run_this="rm"), "'run_this'"),
    "a run that is a path": (_text("run.json", RUN.encode(), b"../../x"), "has an invalid name"),
    "a run of another name": (_text("run.json", RUN.encode(), b"other"), "has an invalid name"),
    "a run without settings": (_text("run.json", b'"settings"', b'"sittings"'), "line 1 of run.json"),
    "two runs": (lambda files, manifest: files.update({"run.json": files["run.json"] * 2}), "2 rows"),
    "a unit of another run": (_first("units.jsonl", run="other"), "none of its run"),
    "a unit below 0": (_first("units.jsonl", unit=-1), "none of its run"),
    "a unit that is text": (_first("units.jsonl", unit="0"), "line 1 of units.jsonl"),
    "a unit that works": (_first("units.jsonl", status="running"), "'running'"),
    "an image that is a path": (_first("units.jsonl", images=["../../etc/passwd"]), "no image's id"),
    "a step of no unit": (_first("steps.jsonl", unit=77), "of no unit"),
    "a score that is none": (_text("steps.jsonl", b'"score": 0.', b'"score": NaN, "x": 0.'), "NaN is no number"),
    "a score without end": (_text("steps.jsonl", b'"score": 0.', b'"score": 1e999, "x": 0.'), "not finite"),
    "a number beyond databases": (_first("steps.jsonl", seed=2**70), "too large"),
    "a row that is deep": (
        lambda files, manifest: files.update({"steps.jsonl": b"[" * 100_000 + b"\n"}), "nested too deeply",
    ),
    "a row that is cut": (lambda files, manifest: files.update({"steps.jsonl": b'{"run": '}), "is truncated"),
    "an event of no unit": (_first("events.jsonl", unit=77), "of no unit"),
    "a pickled checkpoint": (_first("checkpoints.jsonl", **PICKLED), "no plain data"),
    "a checkpoint that calls": (_first("checkpoints.jsonl", **EXTENSION), "no plain data"),
    "a checkpoint of nothing": (_first("checkpoints.jsonl", **_msgpack([1])), "no plain data"),
    "a checkpoint that is a path": (_first("checkpoints.jsonl", id="../../x"), "has no id"),
    "a checkpoint of no unit": (_first("checkpoints.jsonl", unit=77), "of unit 77"),
    "a write that calls": (_first("writes.jsonl", **EXTENSION), "no plain data"),
    "another image": (_other_image, "is no image of its run"),
    "an image of no step": (_foreign_image, "is no image of its run"),
    "an image drawn otherwise": (_first("pictures.jsonl", prompt="a trap"), "do not fit its run"),
    "an image of another run": (_first("pictures.jsonl", image="0" * 64), "do not fit its run"),
    "an account of nothing": (_first("pictures.jsonl", account="[]"), "do not fit its run"),
    "activations of no image": (_first("activations.jsonl", image="0" * 64), "of no image"),
    "activations without end": (_infinite, "of another width, or not finite"),
    "fewer activations": (_first("activations.jsonl", units=4), "of another width, or not finite"),
    "no activations": (lambda files, manifest: files.update({"activations.f32": b""}), "fewer numbers"),
    "more activations": (
        lambda files, manifest: files.update({"activations.f32": files["activations.f32"] + b"1234"}),
        "more numbers",
    ),
    "control activations of others": (_first("controls.jsonl", key="other"), "not those of its run"),
    "control activations pickled": (
        _control(labels=np.array([{}], object), activations=np.zeros((1, 3), np.float32)), "are damaged",
    ),
    "control activations of nothing": (_control(labels=np.zeros(2, int)), "are damaged"),
    "a header of 373 GB": (_header((10**8, 932)), "header claims [100000000]"),
    "a control set of another width": (
        _control(labels=np.zeros(2, int), activations=np.zeros((2, 1), np.float32)),
        "of 3 units on images, and of 1 on its control set",
    ),
    "labels of no class": (
        _control(labels=np.full(2, 99), activations=np.zeros((2, 3), np.float32)), "the label 99, and 12 classes",
    ),
    "labels below none": (
        _control(labels=np.full(2, -2), activations=np.zeros((2, 3), np.float32)), "the label -2",
    ),
    "a unit beyond its layer": (_another_unit(1275), "a unit 1275, and activations of 3 units"),
    "a step beyond any search": (_first("steps.jsonl", step=2**62), f"a step {2**62}, and its run's settings"),
    "a label of no step": (_first("units.jsonl", label_step=2**62), f"a step {2**62}"),
    "a checkpoint beyond any search": (_state(step=2**62), "a step"),
    "a checkpoint at no step": (_state(step="1"), "is at step '1'"),
    "an attempt beyond any": (_first("steps.jsonl", attempt=2**62), "has attempt"),
    "a fork of no step": (_run(forked_step=2**62), "was forked at step"),
    "iterations without end": (_setting("iterations", 2**62), "its run's setting iterations is"),
    "arguments that are no table": (_setting("langchain", ["key"]), "its run's setting langchain is"),
    "a step of no kind": (_first("steps.jsonl", kind="other"), "is 'other'"),
    "a score beyond all": (_first("steps.jsonl", score=1e308), "has score 1e+308"),
    "a score of a board beyond all": (_first("steps.jsonl", board=[["owl", -1e308]]), "has board -1e+308"),
    "a time after all": (_first("units.jsonl", seconds=1e18), "has seconds 1e+18"),
    "a checkpoint twice": (_twice("checkpoints.jsonl"), "is in it twice"),
    "a write twice": (_twice("writes.jsonl"), "is in it twice"),
    "a step twice": (_twice("steps.jsonl"), "is in it twice"),
    "a unit twice": (_twice("units.jsonl"), "none of its run"),
    "an image drawn twice": (_twice("pictures.jsonl"), "it records an image of"),
    "activations twice": (_vector_twice, "twice"),
    "subjects that are none": (_first("pictures.jsonl", account='{"subjects": 5}'), "do not fit its run"),
    "predecessors that are none": (_first("pictures.jsonl", account='{"replaces": ["x"]}'), "do not fit its run"),
    "an image of another size": (_first("pictures.jsonl", size=7), "do not fit its run"),
    "a file too much": (lambda files, manifest: files.update({"run.sh": b"rm"}), "which no bundle has"),
    "a file in a folder above": (lambda files, manifest: files.update({"../../x": b""}), "which no bundle has"),
    "a file at the root": (lambda files, manifest: files.update({"/etc/cron.d/x": b""}), "which no bundle has"),
    "a file missing": (lambda files, manifest: files.pop("steps.jsonl"), "is missing"),
}  # fmt: skip


def rewritten(bundle, path, change, *, right=True, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    if right and manifest:
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        }
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)
    return path


def refusal(store, path, said):
    with pytest.raises(UsageError) as error:
        import_bundle(store, path)
    assert said in error.value.message
    assert "\n" not in str(error.value)
    assert not store.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_export_writes_is_refused_and_nothing_is_written(handed, tmp_path, name):
    change, said = HOSTILE[name]
    refusal(tmp_path / "new", rewritten(handed, tmp_path / "hostile.zip", change), said)


@pytest.mark.parametrize("name", ["a write twice", "a control set of another width", "a score beyond all"])
def test_a_store_that_refused_a_bundle_is_as_before(handed, tmp_path, name):
    store = tmp_path / "here"
    components, _ = begun(store, seed=7)
    components.runs.close()
    components.cache.close()
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.suffix != ".db-shm"}
    with pytest.raises(UsageError, match=re.escape(HOSTILE[name][1])):
        import_bundle(store, rewritten(handed, tmp_path / "hostile.zip", HOSTILE[name][0]))
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.suffix != ".db-shm"}
    assert after == before


def test_a_unit_beyond_the_layer_as_the_store_knows_it_is_refused(half, handed, tmp_path):
    def change(files, manifest):
        _another_unit(3)(files, manifest)
        files.update({"activations.jsonl": b"", "activations.f32": b"", "controls.jsonl": b""})
        files.pop(next(name for name in files if name.startswith("controls/")))

    bundle = rewritten(handed, tmp_path / "wide.zip", change)
    with pytest.raises(UsageError, match="a unit 3, and the activations here are of 3 units"):
        import_bundle(half, bundle)
    assert import_bundle(tmp_path / "new", bundle).new


def test_a_path_that_is_not_utf_8_arrives_as_it_was(half, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    with closing(RunStore(old)) as runs:
        runs.update_run(RUN, settings={**runs.run(RUN).settings, "vocabulary": "/words/\udcff.txt"})
        runs.add_event(RUN, "read", path="/words/\udcff.txt")
    bundle = export(old, RUN, "bundle", tmp_path / "run.zip").path
    import_bundle(tmp_path / "new", bundle)
    with closing(RunStore(tmp_path / "new")) as runs:
        assert runs.run(RUN).settings["vocabulary"] == "/words/\udcff.txt"
        assert runs.events(RUN)[-2]["detail"] == {"path": "/words/\udcff.txt"}
    assert files_of(export(tmp_path / "new", RUN, "bundle", tmp_path / "again.zip").path) == files_of(bundle)


def test_control_activations_that_no_store_would_take_in_are_not_exported(half, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    (control,) = (old / "controls").iterdir()
    np.savez(control, labels=np.full(2, 99), activations=np.zeros((2, 3), np.float32))
    import_bundle(tmp_path / "new", export(old, RUN, "bundle", tmp_path / "run.zip").path)
    assert not (tmp_path / "new" / "controls").exists()
    components = components_for(tmp_path / "new")
    assert work(components, components.runs.run(RUN)).status == "finished"


def test_damaged_activations_are_not_exported(half, uninterrupted, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    with closing(sqlite3.connect(old / "bank.db")) as db, db:
        db.execute("UPDATE activations SET vector = x'0000803f0000803f0000803f' WHERE rowid % 2")
        (whole,) = db.execute("SELECT count(*) FROM activations WHERE NOT rowid % 2").fetchone()
    import_bundle(tmp_path / "new", export(old, RUN, "bundle", tmp_path / "run.zip").path)
    with closing(sqlite3.connect(tmp_path / "new" / "bank.db")) as db:
        assert db.execute("SELECT count(*) FROM activations").fetchone() == (whole,)
    components = components_for(tmp_path / "new")
    work(components, components.runs.run(RUN))
    assert outcome(components, RUN) == uninterrupted[False]


def test_a_damaged_control_set_of_a_store_is_made_whole_by_an_import(half, handed, tmp_path):
    store = tmp_path / "new"
    components = components_for(store)
    start(components, LAYER, ["0"])
    shutil.copytree(half / "controls", store / "controls", dirs_exist_ok=True)
    (control,) = (store / "controls").iterdir()
    whole = control.read_bytes()
    control.write_bytes(whole[:100])
    import_bundle(store, handed)
    assert control.read_bytes() == whole
    assert check(store, deep=True) == []


def test_nothing_goes_on_from_checkpoints_that_a_killed_import_left(handed, uninterrupted, tmp_path):
    store = tmp_path / "new"
    import_bundle(store, handed)
    # As where it was killed when the checkpoints were written, and the run was not.
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        for table in ("runs", "units", "steps", "events", "wishes"):
            db.execute(f"DELETE FROM {table}")
    components, run = begun(store)
    assert run.id == RUN
    with closing(sqlite3.connect(store / "checkpoints.db")) as db:
        assert db.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
    work(components, run)
    assert outcome(components, RUN) == uninterrupted[False]


@pytest.mark.parametrize("name", ["run.json", "units.jsonl", "checkpoints.jsonl", "activations.f32"])
def test_a_changed_file_is_refused_by_its_hash(handed, tmp_path, name):
    def change(files, manifest):
        files[name] = files[name][:-2] + b"  "

    refusal(
        tmp_path / "new",
        rewritten(handed, tmp_path / "changed.zip", change, right=False),
        f"the content of {name} is not what the manifest says",
    )


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_cut_bundle_is_refused(handed, tmp_path, part):
    content = handed.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: int(len(content) * part)])
    refusal(tmp_path / "new", tmp_path / "cut.zip", "truncated or no zip")


def test_a_bundle_with_flipped_bytes_is_refused_or_the_same(handed, tmp_path):
    content, whole = handed.read_bytes(), found_in(handed, tmp_path / "whole")
    for place in range(40, len(content), len(content) // 25):
        path = tmp_path / "flipped.zip"
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert found_in(path, tmp_path / f"at-{place}") == whole
        except UsageError as error:
            assert "\n" not in str(error)
            assert not (tmp_path / f"at-{place}").exists()


def found_in(bundle, store):
    import_bundle(store, bundle)
    return found(store)


def test_a_file_twice_a_link_and_another_packing_are_refused(handed, tmp_path):
    link = zipfile.ZipInfo("run.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, added, said in (("twice", "run.json", "in it twice"), ("link", link, "in it twice")):
        path = Path(shutil.copy(handed, tmp_path / f"{name}.zip"))
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
            archive.writestr(added, b"/etc/passwd")
        refusal(tmp_path / "new", path, said)
    path = tmp_path / "only-link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    refusal(tmp_path / "new", path, "is a link")
    packed = rewritten(handed, tmp_path / "packed.zip", lambda *_: None, packing=zipfile.ZIP_LZMA)
    refusal(tmp_path / "new", packed, "packed in a way")


def test_a_bomb_is_refused_before_it_is_unpacked(handed, tmp_path):
    path = rewritten(
        handed, tmp_path / "bomb.zip", lambda files, _: files.update({"steps.jsonl": bytes(80 << 20)})
    )
    refusal(tmp_path / "new", path, "would unpack to")


def test_activations_of_another_width_than_those_here_are_refused(handed, tmp_path):
    components, run = begun(tmp_path / "new", target=_Wide())
    work(components, run)
    with pytest.raises(UsageError, match="of 3 units, those here of 4"):
        import_bundle(tmp_path / "new", handed)
    assert RunStore(tmp_path / "new").names() == [run.id]


class _Wide(ScriptedTarget):
    def layers(self):
        return [LayerInfo(LAYER, "Linear", (4,), 4)]

    def activate(self, images, layers, progress=None):
        return {
            layer: np.pad(rows, ((0, 0), (0, 1)))
            for layer, rows in super().activate(images, layers, progress).items()
        }


def test_a_run_that_a_process_elsewhere_holds_is_exported_as_interrupted(half, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(half, old)
    at_work(old, RUN)
    import_bundle(tmp_path / "new", export(old, RUN, "bundle", tmp_path / "run.zip").path)
    assert RunStore(tmp_path / "new").run(RUN).status == "interrupted"
