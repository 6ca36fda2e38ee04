"""Parse a concept phrase into subjects, a colour each, and the scene around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from line_neurons.agent.nouns import singular

MAX_SUBJECTS = 2
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
_MAX_CHARACTERS = 200

PLACES: dict[str, tuple[str, ...]] = {
    "forest": ("forest", "woods", "woodland", "pine forest"),
    "beach": ("beach", "seaside", "seashore", "shore", "coast"),
    "sea": ("sea", "ocean"),
    "lake": ("lake", "lakeside", "lakeshore"),
    "underwater": ("underwater", "coral reef", "reef", "sea floor", "seabed"),
    "water": ("water", "water surface"),
    "meadow": ("meadow", "grass", "lawn", "pasture", "grassland"),
    "field": ("field",),
    "plain": ("plain", "prairie", "steppe"),
    "mountain": ("mountain", "mountains", "hills"),
    "garden": ("garden", "flower bed"),
    "leaves": ("leaves", "foliage"),
    "wood": ("wood", "wooden boards", "wooden floor", "wooden table", "wood floor"),
    "road": ("road", "street", "highway"),
    "sky": ("sky", "clouds"),
    "studio": ("studio", "plain background", "white background", "studio background"),
}
CONDITIONS: dict[str, tuple[str, ...]] = {
    "night": ("night", "at night", "darkness", "moonlight"),
    "snow": ("snow", "winter", "snowfall"),
    "fog": ("fog", "mist"),
    "rain": ("rain",),
    "sunset": ("sunset", "dusk"),
    "autumn": ("autumn",),
    "storm": ("storm",),
}
_ADJECTIVES = {
    "snowy": "snow",
    "foggy": "fog",
    "misty": "fog",
    "rainy": "rain",
    "stormy": "storm",
    "wintry": "snow",
    "grassy": "meadow",
    "autumnal": "autumn",
    "nighttime": "night",
    "underwater": "underwater",
}
COLOURS = frozenset(
    {
        *("red", "orange", "yellow", "green", "cyan", "turquoise", "blue", "purple", "violet"),
        *("pink", "magenta", "brown", "black", "white", "grey", "gray"),
    }
)
_ALIASES = {"gray": "grey", "violet": "purple", "turquoise": "cyan"}

_PREPOSITIONS = "in front of|in|on|at|under|over|by|near|inside|against|through|across|along|above|beside|during"
_JOINTS = r"\s+(?:and|with|next to|beside|near|on|under|by|behind|in front of)\s+|\s*[,&+]\s*"
_EDGES = " ,&+'"
_ARTICLE = re.compile(r"^(?:(?:a|an|the|some|one)\s+)+(?=\S)")


@dataclass(frozen=True)
class Subject:
    """One subject, the requested colour (a key of the colour table) if any, and how many of it."""

    text: str
    colour: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Phrase:
    """A parsed concept phrase.

    Args:
        text: the phrase, normalised.
        subjects: at most two; none if the phrase names only a scene.
        place: where, a key of the table of places, or a scene of the bank.
        conditions: night, snow, fog, ...: how the place looks.
        ignored: words that are neither composed nor matched.
    """

    text: str
    subjects: tuple[Subject, ...] = ()
    place: str | None = None
    conditions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def scenes(self) -> tuple[str, ...]:
        """Place and conditions together."""
        return (*([self.place] if self.place else []), *self.conditions)


def parse(
    text: str, known: Callable[[str], bool], scenes: Collection[str] = (), *, counted: bool = False
) -> Phrase:
    """Parse a phrase, of which only the first 200 characters count; never raises.

    A phrase that ``known`` accepts as a name of the bank is one subject, whatever its words ("green apple", "sea
    lion"). ``scenes`` are places the bank has beyond the built-in table. ``counted`` reads numbers.
    """
    whole = normalise(text)
    if not whole:
        return Phrase(whole)
    if known(whole):
        return Phrase(whole, (Subject(whole),))
    table = _scene_words(scenes)
    rest, found = _take_scenes(whole, table, known)
    phrase = _with_scenes(Phrase(whole), found)
    for part in _parts(rest, known):
        phrase = _add_part(phrase, part, table, known, counted=counted)
    return phrase


def normalise(text: str) -> str:
    """Normalise to lower case, letters, digits and commas, single spaces, no leading article."""
    words = re.sub(r"[^\w\s,&+'-]|_", " ", text[:_MAX_CHARACTERS].casefold())
    words = re.sub(r"[\s-]+", " ", words).strip(_EDGES)
    while (shorter := _ARTICLE.sub("", words).strip(_EDGES)) != words:
        words = shorter
    return words


def singular_phrase(phrase: str) -> str:
    """Reduce the last word of a normalised phrase to the form that singular and plural share."""
    head, _, last = phrase.rpartition(" ")
    return f"{head} {singular(last)}".strip()


def _scene_words(extra: Iterable[str]) -> dict[str, str]:
    words = {alias: scene for table in (PLACES, CONDITIONS) for scene, names in table.items() for alias in names}
    return {**{scene: scene for scene in extra}, **words}


def _take_scenes(text: str, table: dict[str, str], known: Callable[[str], bool]) -> tuple[str, list[str]]:
    """Strip scene words from both ends; the rest names subjects."""
    found: list[str] = []
    longest_first = sorted(table, key=lambda word: (-len(word), word))
    names = "|".join(re.escape(word) for word in longest_first)
    adjectives = "|".join(_ADJECTIVES)
    trailing = re.compile(
        rf"(?:^|\s)(?:{_PREPOSITIONS})\s+(?:(?:a|an|the)\s+)?((?:(?:{adjectives})\s+)*)({names})$"
    )
    while text and not known(text):
        if text in table:
            return "", [*found, table[text]]
        if match := trailing.search(text):
            found += [table[match[2]], *(_ADJECTIVES[word] for word in match[1].split())]
            text = text[: match.start()].strip()
            continue
        first, _, rest = text.partition(" ")
        # A noun before another noun names a kind of thing ("sea cow"), unless all of it is scenery.
        leading = {**table, **_ADJECTIVES} if rest in table else _ADJECTIVES
        if rest and first in leading and not rest.startswith(("and ", "with ")):
            found.append(leading[first])
            text = _ARTICLE.sub("", rest)
            continue
        break
    return text, found


def _parts(text: str, known: Callable[[str], bool]) -> list[str]:
    if not text or known(text):
        return [text] if text else []
    return [part for part in (_ARTICLE.sub("", piece.strip()) for piece in re.split(_JOINTS, text)) if part]


def _add_part(
    phrase: Phrase, part: str, table: dict[str, str], known: Callable[[str], bool], *, counted: bool
) -> Phrase:
    part, found = _take_scenes(part, table, known)
    phrase = _with_scenes(phrase, found)
    if not part:
        return phrase
    if part in COLOURS or len(phrase.subjects) == MAX_SUBJECTS:
        return replace(phrase, ignored=(*phrase.ignored, part))
    first, _, rest = part.partition(" ")
    count = 1
    if counted and rest and first in NUMBERS and not known(part):
        part, count = rest, NUMBERS[first]
        first, _, rest = part.partition(" ")
    if rest and first in COLOURS and not known(part):
        subject = Subject(_ARTICLE.sub("", rest), _ALIASES.get(first, first), count)
    else:
        subject = Subject(part, count=count)
    return replace(phrase, subjects=(*phrase.subjects, subject))


def _with_scenes(phrase: Phrase, found: Iterable[str]) -> Phrase:
    for scene in found:
        if scene in CONDITIONS:
            if scene not in phrase.conditions:
                phrase = replace(phrase, conditions=(*phrase.conditions, scene))
        elif phrase.place is None:
            phrase = replace(phrase, place=scene)
        elif scene != phrase.place:
            phrase = replace(phrase, ignored=(*phrase.ignored, scene))
    return phrase
