"""Candidates: the concepts that the response model and the nearest words choose from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from line_neurons.agent.concepts import concept_key, normalise_concept
from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.image_bank.bank import Bank
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.vocabulary import read_words

# Lexicographer files of WordNet: animal, artifact, body, food, object, plant, shape and substance.
_THINGS = frozenset({"05", "06", "08", "13", "17", "20", "25", "27"})
_PERSON = "18"
# Groups of species, whose Latin names nobody photographs by.
_TAXA = ("genus", "family", "order", "class", "phylum", "tribe", "kingdom", "division", "suborder", "subclass")
_TAXON = re.compile(rf"\b(?:{'|'.join(_TAXA)}|genera|sub\w+|super\w+) ")
_FEWEST = 2


def check_candidates(settings: Settings, assets: Path) -> None:
    """Check that the candidates fit the generator, and that their files are there.

    Raises:
        UsageError: the candidates do not fit the generator, or the word list is no file.
        MissingPartError: WordNet is not installed.
    """
    composes, source = uses_image_bank(settings.generator), _source(settings)
    if source == "drawable" and not composes:
        raise UsageError(
            f"the generator {settings.generator} makes images of anything and has no list of captions",
            "use --candidates vocabulary or wordnet",
        )
    if source == "wordnet" and composes:
        raise UsageError(
            "an image bank has images of few of WordNet's nouns",
            "use --candidates drawable, or a text-to-image model as --generator",
        )
    if source == "wordnet" and not (assets / "wordnet" / "data.noun").is_file():
        raise MissingPartError(f"WordNet is not in {assets / 'wordnet'}", "line assets install wordnet")
    if source == "vocabulary" and settings.vocabulary and not settings.vocabulary.is_file():
        raise UsageError(
            f"there is no word list {str(settings.vocabulary)!r}", "name an existing file with --vocabulary"
        )


def _source(settings: Settings) -> str:
    return settings.candidates or ("drawable" if uses_image_bank(settings.generator) else "vocabulary")


def candidate_words(
    settings: Settings,
    assets: Path,
    bank: Callable[[], Bank],
    absent: Callable[[Sequence[str]], Sequence[str]] | None,
) -> tuple[str, ...]:
    """Return the candidates of the settings, sorted, each once.

    Args:
        absent: returns those of the given words that the generator has no images of; None if it makes any.

    Raises:
        UsageError: the candidates do not fit the generator, or are fewer than two.
        MissingPartError: WordNet is not installed.
    """
    check_candidates(settings, assets)
    source = _source(settings)
    if source == "drawable":
        words: Iterable[str] = bank().captions("search")
    elif source == "wordnet":
        words = noun_words(assets / "wordnet")
    else:
        words = read_words(settings.vocabulary)
    kept = _concepts(words)
    if source == "vocabulary" and absent is not None:
        lacking = set(absent(kept))
        kept = [word for word in kept if word not in lacking]
    if len(kept) < _FEWEST:
        what = f"the only candidate is {kept[0]!r}" if kept else "there are no candidates"
        raise UsageError(f"{what}: there is nothing to choose from", "name a longer word list with --vocabulary")
    return tuple(kept)


def noun_words(folder: Path) -> list[str]:
    """Return WordNet's nouns that name things, about 30,000.

    A synset of a thing gives the first of its words of which it is the most frequent sense; groups of species and
    single individuals are left out, and persons but for those that occur in WordNet's tagged texts.

    Raises:
        MissingPartError: its files are missing.
    """
    index, data = noun_files(folder)
    first: dict[str, tuple[str, bool]] = {}
    for line in index:
        lemma, _, senses, *rest = line.split()
        first[lemma] = (rest[-int(senses)], int(rest[-int(senses) - 1]) > 0)
    return [word for line in data for word in _word_of(line, first)]


def noun_files(folder: Path) -> tuple[list[str], list[str]]:
    """Read the entries of WordNet's ``index.noun`` and ``data.noun``, a line each, without their licence.

    Raises:
        MissingPartError: the files are missing.
    """
    try:
        texts = [(folder / name).read_text(encoding="utf-8") for name in ("index.noun", "data.noun")]
    except OSError as error:
        raise MissingPartError(
            f"WordNet is not in {folder}: {error.strerror}", "line assets install wordnet"
        ) from error
    index, data = ([line for line in text.splitlines() if line and not line.startswith(" ")] for text in texts)
    return index, data


def _word_of(line: str, first: dict[str, tuple[str, bool]]) -> list[str]:
    synset, _, gloss = line.partition(" | ")
    offset, kind, _, count, *fields = synset.split()
    lemmas = fields[: 2 * int(count, 16) : 2]
    if kind not in _THINGS and kind != _PERSON:
        return []
    if "@i" in fields or (lemmas[0][:1].isupper() and _TAXON.search(gloss)):
        return []
    if any(lemma.partition("_")[0] in _TAXA for lemma in lemmas):
        return []
    for lemma in lemmas:
        sense, tagged = first.get(lemma.lower(), ("", False))
        if sense == offset and (tagged or kind != _PERSON):
            return [lemma]
    return []


def _concepts(words: Iterable[str]) -> list[str]:
    """Return the words that can be concepts, normalised and sorted, each once."""
    kept: dict[str, str] = {}
    for word in words:
        try:
            concept = normalise_concept(word)
        except ValueError:
            continue
        kept.setdefault(concept_key(concept), concept)
    return sorted(kept.values())
