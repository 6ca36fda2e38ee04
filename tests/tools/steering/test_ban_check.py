"""A ban of a word that the search does not know is doubted, with what may be meant."""

import pytest

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.steering import ban_check
from line_neurons.tools.steering.ban_check import doubtful_ban
from line_neurons.tools.store.steering_queue import submit
from support.fakes import LAYER, ScriptedModel, scripted_components


class Bank:
    """Draws an electric guitar and nothing else."""

    def captions(self, split):
        return ("electric guitar", "violin", "fire")

    def plan(self, concept):
        if concept != "electric guitar":
            raise NotDrawableError(concept, [("electric guitar", 0.72), ("violin", 0.51), ("fire", 0.38)])


@pytest.fixture
def run(tmp_path):
    components = scripted_components(tmp_path, ScriptedModel(["acoustic guitar"] * 9), iterations=1, images=1)
    return components, work(components, start(components, LAYER, ["0"]))


def doubt(run, concept, tmp_path):
    return doubtful_ban(run[0].runs, run[1], 0, concept, tmp_path)


@pytest.fixture
def bank(monkeypatch):
    monkeypatch.setattr(ban_check, "uses_image_bank", lambda generator: True)
    monkeypatch.setattr(ban_check, "open_image_bank", lambda settings, assets: Bank())
    monkeypatch.setattr(ban_check, "open_bank_generator", lambda *args, **places: Bank())


def test_what_was_scored_or_sent_or_can_be_drawn_is_not_doubted(run, bank, tmp_path):
    submit(tmp_path, run[1].id, 0, "try", "red fox")
    for known in ("acoustic guitars", "class a", "Red Fox", "electric guitar", "a, b"):
        assert doubt(run, known, tmp_path) is None


def test_a_slip_is_doubted_with_the_scored_concept_and_near_captions(run, bank, tmp_path):
    assert str(doubt(run, "Acustic guitar", tmp_path)) == (
        "'acustic guitar' is neither on the scoreboard nor in the history, nor in the image bank; "
        "near it: acoustic guitar (in its history)"
    )


def test_a_slip_of_a_caption_is_told_by_its_letters(run, bank, tmp_path):
    assert str(doubt(run, "Electric gitar", tmp_path)).endswith("near it: electric guitar (in the image bank)")


def test_a_concept_that_letters_do_not_explain_is_looked_up_by_its_meaning(run, bank, monkeypatch, tmp_path):
    assert str(doubt(run, "owl", tmp_path)) == (
        "'owl' is neither on the scoreboard nor in the history, and cannot be generated; "
        "near it: electric guitar 0.72, violin 0.51"
    )
    monkeypatch.setattr(ban_check, "open_bank_generator", lambda *args, **places: pytest.fail("loads an encoder"))
    assert doubt(run, "violins", tmp_path) is None
    assert doubt(run, "acustic guitar", tmp_path) is not None
    assert doubt(run, "Violen", tmp_path) is not None


def test_a_model_that_draws_anything_leaves_only_slips_of_scored_concepts_in_doubt(run, monkeypatch, tmp_path):
    monkeypatch.setattr(ban_check, "uses_image_bank", lambda generator: False)
    assert doubt(run, "grey wolf", tmp_path) is None
    assert "acoustic guitar (in its history)" in str(doubt(run, "acustic guitar", tmp_path))


def test_a_bank_that_is_not_here_is_told(run, bank, monkeypatch, tmp_path):
    def gone(settings, assets):
        raise UsageError("the folder 'photos' is gone")

    monkeypatch.setattr(ban_check, "open_image_bank", gone)
    assert "cannot be looked up here (the folder 'photos' is gone)" in str(doubt(run, "owl", tmp_path))
