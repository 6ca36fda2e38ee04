"""Which names a phrase reaches."""

import io
import zipfile

import numpy as np
import pytest

from line_neurons.agent.errors import NotDrawableError
from line_neurons.tools.cache.embeddings import write_embeddings
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.matching import Matcher


@pytest.fixture
def matcher(bank, encoder):
    return Matcher(bank, encoder, "search", threshold=0.5, margin=0.03)


@pytest.mark.parametrize("phrase", ["dog", "Dogs", "a dog", "hound"])
def test_a_name_synonym_or_plural_matches_exactly(matcher, phrase):
    (match,) = matcher.match(phrase)
    assert match.similarity == 1
    assert match.captions == ("dog",)


def test_a_broader_name_reaches_every_member(matcher):
    (match,) = matcher.match("animals")
    assert match.captions == ("cat", "dog")


def test_a_held_out_image_is_never_matched_in_the_search(matcher):
    assert [entry.id for entry in matcher.match("dog")[0].entries] == ["dog1.png", "dog2.png"]


def test_a_near_phrase_matches_with_its_similarity_and_its_left_over_words(matcher):
    match = matcher.match("brown dog")[0]
    assert match.name == "dog"
    assert 0.5 <= match.similarity < 1
    assert match.ignored == ("brown",)


def test_nothing_near_is_refused_with_the_nearest(matcher):
    with pytest.raises(NotDrawableError) as caught:
        matcher.match("democracy")
    assert caught.value.concept == "democracy"
    assert len(caught.value.nearest) == 5
    assert caught.value.nearest == sorted(caught.value.nearest, key=lambda pair: -pair[1])


@pytest.mark.parametrize(
    ("phrase", "caption"), [("dog house", "dog"), ("apple", "apple tree"), ("ballroom", "ball")]
)
def test_a_shared_word_that_only_qualifies_is_no_match(phrase, caption, tmp_path, encoder, cutout_file):
    cutout_file(tmp_path / f"{caption}.png", (9, 99, 9))
    matcher = Matcher(folder_bank(tmp_path), encoder, "search", threshold=0.2, margin=0.0)
    assert dict(matcher.nearest(phrase))[caption] > 0.2
    with pytest.raises(NotDrawableError):
        matcher.match(phrase)


@pytest.mark.parametrize("phrase", ["", "  ", "?!"])
def test_an_empty_phrase_is_refused(matcher, phrase):
    with pytest.raises(NotDrawableError):
        matcher.match(phrase)


def test_suggestions_leave_out_the_concepts_and_are_limited(matcher):
    assert "dog" not in matcher.suggest(["dogs"], 10)
    assert len(matcher.suggest(["dogs"], 2)) == 2
    assert matcher.suggest(["dogs"], 0) == []
    assert matcher.suggest([], 3) == []


def test_suggestions_begin_with_the_nearest_whatever_the_order(matcher):
    assert matcher.suggest(["apple pie", "ball"], 3)[0] == "green apple"
    assert matcher.suggest(["apple pie", "ball"], 3) == matcher.suggest(["ball", "apple pie"], 3)


def roll(file):
    """Let each row stand for the name of another."""
    with np.load(file) as arrays:
        np.savez(file, embeddings=np.roll(arrays["embeddings"], 1, axis=0), checksum=arrays["checksum"])


def file_of_others(file):
    write_embeddings(file.with_name(f"names-{'0' * 32}.npz"), np.load(file)["embeddings"])
    file.with_name(f"names-{'0' * 32}.npz").replace(file)


def claim_much(file):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 384)})
    with zipfile.ZipFile(file, "w") as arrays:
        arrays.writestr("embeddings.npy", header.getvalue())


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"broken"), roll, file_of_others, claim_much])
def test_kept_embeddings_that_are_not_what_they_were_are_told_and_made_again(
    bank, encoder, tmp_path, caplog, spoil
):
    def nearest():
        return Matcher(bank, encoder, "search", threshold=0.5, margin=0.0, cache=tmp_path).nearest("dogs")

    first = nearest()
    calls = encoder.calls
    assert nearest() == first
    assert encoder.calls == calls + 1
    (file,) = tmp_path.iterdir()
    before = np.load(file)["embeddings"]
    assert "damaged" not in caplog.text
    spoil(file)
    assert nearest() == first
    assert "are damaged; they are computed again" in caplog.text
    np.testing.assert_array_equal(np.load(file)["embeddings"], before)


def test_embeddings_that_an_earlier_version_kept_without_a_checksum_are_not_used(bank, encoder, tmp_path):
    def nearest():
        return Matcher(bank, encoder, "search", threshold=0.5, margin=0.0, cache=tmp_path).nearest("dogs")

    first = nearest()
    (file,) = tmp_path.iterdir()
    earlier = file.with_suffix(".npy")
    np.save(earlier, np.roll(np.load(file)["embeddings"], 1, axis=0))
    file.unlink()
    assert nearest() == first
    assert list(tmp_path.iterdir()) == [file]
