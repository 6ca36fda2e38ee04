"""Image files that are harmed behind the store's back, and drawing that is cut off."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.ports import DrawnImage
from line_neurons.graphs.runs.lifecycle import retry, start, work
from line_neurons.tools.cache.activation_cache import Cache
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, events, image_of, outcome, scripted_components


def components_for(store, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    return scripted_components(store, model, **{"iterations": 2, "images": 3, "top": 2, "random": 2} | options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    components = components_for(tmp_path_factory.mktemp("undisturbed"))
    return outcome(components, work(components, start(components, LAYER, ["0-1"])).id)


def stopped_before_measuring(store, proposals=1):
    """A run stopped when a proposal had been drawn and not yet measured; the run, and ids of those images."""
    drain = RunControl()

    class Draining(ScriptedGenerator):
        def synthesize(self, requests, progress=None):
            proposed = {one.concept for one in (*self.drawn, *requests) if one.concept.startswith("thing")}
            if len(proposed) == proposals:
                drain.request_drain("test")
            return super().synthesize(requests)

    components = components_for(store, generator=Draining())
    run = start(components, LAYER, ["0-1"])
    assert work(components, run, drain=drain).status == "interrupted"
    components.cache.close()
    with sqlite3.connect(store / "bank.db") as db:
        query = "SELECT image FROM draws WHERE image NOT IN (SELECT image FROM activations)"
        images = {image for (image,) in db.execute(query)}
    assert len(images) == 3
    return run, images


def cut(path):
    path.write_bytes(path.read_bytes()[:20])


def changed(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "somebody's.txt").write_text("kept")


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


HARM = {
    "cut": (cut, "is damaged: its content has changed"),
    "changed": (changed, "is damaged: its content has changed"),
    "deleted": (os.unlink, "has gone"),
    "a folder": (a_folder, "is not a regular file"),
    "a pipe": (a_pipe, "is not a regular file"),
    "a link to nothing": (a_link_to_nothing, "has gone"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_image_harmed_before_it_is_measured_is_drawn_anew_and_told(tmp_path, undisturbed, caplog, harm):
    run, unmeasured = stopped_before_measuring(tmp_path)
    components = components_for(tmp_path)
    do, reason = HARM[harm]
    for image in unmeasured:
        do(components.cache.image_path(image))
    assert work(components, run).status == "finished"
    assert outcome(components, run.id) == undisturbed
    told = events(components, run.id, "image redrawn")
    assert {one["picture"] for one in told} == unmeasured
    assert all(one["reason"].startswith(reason) and one["concept"].startswith("thing") for one in told)
    assert components.cache.stats.regenerated == 3
    for image in unmeasured:
        assert f"the file of image {image[:12]}" in caplog.text
        assert components.cache.image_bytes(image)
    if harm == "a folder":
        assert len([*(tmp_path / "images").rglob("somebody's.txt")]) == 3


@pytest.mark.parametrize("lasting", [False, True])
def test_a_image_that_the_disk_cannot_read_is_drawn_anew_if_that_lasts(
    tmp_path, undisturbed, monkeypatch, lasting
):
    run, unmeasured = stopped_before_measuring(tmp_path)
    components = components_for(tmp_path)
    # Held open, so that no new file gets the number of one of them.
    held = [components.cache.image_path(image).open("rb") for image in unmeasured]
    bad = {os.fstat(file.fileno()).st_ino for file in held}
    real = Path.read_bytes

    def read(path):
        if (file := path.stat().st_ino) in bad:
            if not lasting:
                bad.remove(file)
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert work(components, run).status == "finished"
    assert outcome(components, run.id) == undisturbed
    told = events(components, run.id, "image redrawn")
    assert {one["picture"] for one in told} == (unmeasured if lasting else set())
    assert all(one["reason"] == "cannot be read: Input/output error" for one in told)
    for file in held:
        file.close()


def test_when_the_whole_folder_of_images_goes_what_is_needed_is_drawn_anew(tmp_path, undisturbed, caplog):
    run, _ = stopped_before_measuring(tmp_path)
    shutil.rmtree(tmp_path / "images")
    components = components_for(tmp_path)
    assert work(components, run).status == "finished"
    assert outcome(components, run.id) == undisturbed
    redrawn = events(components, run.id, "image redrawn")
    assert len(redrawn) == components.cache.stats.regenerated > 5
    # A handful are told one by one.
    assert caplog.text.count("was generated again") == 5
    assert "more events like this are only counted and recorded (image redrawn)" in caplog.text


def test_a_bank_that_has_forgotten_the_images_in_hand_draws_them_anew(tmp_path, undisturbed):
    run, unmeasured = stopped_before_measuring(tmp_path)
    with sqlite3.connect(tmp_path / "bank.db") as db:
        db.executemany("DELETE FROM draws WHERE image = ?", [(image,) for image in unmeasured])
    shutil.rmtree(tmp_path / "images")
    components = components_for(tmp_path)
    assert work(components, run).status == "finished"
    assert outcome(components, run.id) == undisturbed


class Drifted(ScriptedGenerator):
    """Draws the same things, in other bytes: as another release of a library does."""

    def synthesize(self, requests, progress=None):
        return [DrawnImage(image_of(r.concept, r.seed, r.prompt + " "), {"release": 2}) for r in requests]


def test_a_image_that_comes_out_differently_takes_the_old_ones_place_and_the_history_keeps_its_id(
    tmp_path, undisturbed, caplog
):
    run, unmeasured = stopped_before_measuring(tmp_path)
    shutil.rmtree(tmp_path / "images")
    components = components_for(tmp_path, generator=Drifted())
    assert work(components, run).status == "finished"
    now = {one["picture"]: one["now"] for one in events(components, run.id, "image redrawn")}
    assert "and differs from before" in caplog.text
    assert unmeasured <= now.keys()
    bank = Cache(tmp_path)
    for lost, new in now.items():
        assert (bank.provenance(lost)["replaced_by"], bank.provenance(new)["release"]) == (new, 2)
        assert bank.provenance(lost)["concept"] == bank.provenance(new)["replaces"][lost]["concept"]
        assert not bank.image_path(lost).exists()
        assert (bank.activations([lost], components.target, LAYER, generator=components.generator)).tolist() == (
            bank.activations([new], components.target, LAYER)
        ).tolist()
    (step,) = [step for step in components.runs.steps(run.id, 0) if set(step.images) == unmeasured]
    # These images show the same to the target, so all scores are as they were.
    assert (step.step, [row[:7] for row in outcome(components, run.id)[1]]) == (
        1,
        [row[:7] for row in undisturbed[1]],
    )


@pytest.mark.parametrize("in_flight", [1, 2])
def test_an_error_in_a_later_batch_of_a_concept_loses_that_batch_alone(tmp_path, undisturbed, in_flight):
    class Full(ScriptedGenerator):
        def synthesize(self, requests, progress=None):
            if len(self.drawn) >= 14:  # four concepts are on the first board: this is the second of three images
                raise MemoryError("no more")
            return super().synthesize(requests)

    components = components_for(
        tmp_path, generator=Full(), max_concurrent_units=in_flight, max_consecutive_failures=3
    )
    run = start(components, LAYER, ["0-1"])
    assert work(components, run).status == "failed"
    assert {unit.error for unit in components.runs.units(run.id) if unit.status == "failed"} == {
        "the generator ran out of memory: no more (free some, or generate smaller batches)"
    }
    again = components_for(tmp_path, max_concurrent_units=in_flight)
    retry(again.runs, run)
    assert work(again, again.runs.run(run.id)).status == "finished"
    assert outcome(again, run.id) == undisturbed
    drawn = [(one.prompt, one.seed) for one in (*components.generator.drawn, *again.generator.drawn)]
    assert len(drawn) == len(set(drawn))
    assert len(components.generator.drawn) == 14


def killed_while_drawing(store, images):
    class Deadly(ScriptedGenerator):
        def synthesize(self, requests, progress=None):
            if len(self.drawn) == images:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().synthesize(requests)

    components = components_for(store, generator=Deadly())
    work(components, start(components, LAYER, ["0-1"]))


def test_a_kill_within_a_concept_loses_no_image_that_was_drawn(tmp_path, undisturbed):
    process = multiprocessing.get_context("fork").Process(target=killed_while_drawing, args=(tmp_path, 14))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    components = components_for(tmp_path)
    (run,) = components.runs.runs()
    work(components, run)
    assert outcome(components, run.id) == undisturbed
    with sqlite3.connect(tmp_path / "bank.db") as db:
        (images,) = db.execute("SELECT count(*) FROM draws").fetchone()
    assert len(components.generator.drawn) == images - 14


def test_a_unit_whose_labels_images_are_lost_for_good_fails_alone(tmp_path):
    run, _ = stopped_before_measuring(tmp_path, proposals=3)
    with sqlite3.connect(tmp_path / "bank.db") as db:
        db.execute("DELETE FROM draws")
        db.execute("DELETE FROM activations")
    shutil.rmtree(tmp_path / "images")
    components = components_for(tmp_path, max_consecutive_failures=3)
    assert work(components, run).status == "failed"
    first, second = components.runs.units(run.id)
    assert (first.status, second.status) == ("failed", "finished")
    assert "the store does not record how this generator made it" in first.error
