"""A WordNet of a few nouns, in the files that the real one has."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from line_neurons.eval.labels.wordnet import WordNet


def small_wordnet(folder: Path, nouns: Mapping[int, tuple[Sequence[str], Sequence[int]]]) -> WordNet:
    """Of each synset's offset its words and what it is a kind of; a word's senses are in the order given."""
    data, index = [], {}
    for offset, (lemmas, above) in nouns.items():
        named = " ".join(f"{lemma} 0" for lemma in lemmas)
        pointers = " ".join(f"@ {up:08} n 0000" for up in above)
        data.append(f"{offset:08} 00 n {len(lemmas):02x} {named} {len(above):03} {pointers} | gloss")
        for lemma in lemmas:
            index.setdefault(lemma, []).append(f"{offset:08}")
    lines = (f"{word} n {len(found)} 0 1 0 {' '.join(found)}" for word, found in index.items())
    (folder / "data.noun").write_text("\n".join(data))
    (folder / "index.noun").write_text("\n".join(lines))
    return WordNet(folder)
