import csv
import subprocess
import sys
from collections import defaultdict
from importlib.resources import files

import inflect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.nouns import singular
from line_neurons.tools.vocabulary import imagenet_classes


def captions() -> set[str]:
    """Every name that the bundled image bank has for a thing or a group of things."""
    table = files("line_neurons.tools.image_bank").joinpath("bundled.csv").read_text("utf-8")
    columns = ("caption", "also", "broader")
    names = {name for row in csv.DictReader(table.splitlines()) for key in columns for name in row[key].split(";")}
    return names - {""}


def class_names() -> set[str]:
    pytest.importorskip("torchvision")
    return {class_concept(name) for name in imagenet_classes()}


# Names in the plural, and names of one thing that nobody counts.
NO_PLURAL = {
    *("bars", "binoculars", "boards", "cherries", "clouds", "fireworks", "grapes", "leaves", "meerkats"),
    *("mountains", "plants", "ruins", "spoons", "sunglasses", "swans", "trunks", "tweezers", "waves", "woods"),
    *("t",),
    *("bouvier des flandres", "great pyrenees", "patas", "planet mars", "triceratops"),
}


@pytest.mark.parametrize("names", [captions, class_names])
def test_the_plural_of_every_name_has_the_key_of_the_name(names):
    engine = inflect.engine()
    counted = sorted(name for name in names() if not {name, name.split()[-1]} & NO_PLURAL)
    assert len(counted) > 500
    missed = [name for name in counted if concept_key(_plural(name, engine)) != concept_key(name)]
    assert missed == []


def _plural(name: str, engine: inflect.engine) -> str:
    *others, last = name.split()
    return " ".join([*others, engine.plural_noun(last)])


def test_names_share_a_key_only_where_one_is_the_plural_of_the_other():
    by_key = defaultdict(set)
    for name in captions() | class_names():
        by_key[concept_key(name)].add(name)
    assert sorted(sorted(names) for names in by_key.values() if len(names) > 1) == [
        ["cherries", "cherry"],
        ["meerkat", "meerkats"],
        ["spoon", "spoons"],
        ["sunglass", "sunglasses"],
        ["swan", "swans"],
    ]


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        *[("potatoes", "potato"), ("tomatoes", "tomato"), ("mangoes", "mango"), ("mangos", "mango")],
        *[("buses", "bus"), ("lenses", "lens"), ("canvases", "canvas"), ("irises", "iris"), ("gases", "gas")],
        *[("horses", "horse"), ("roses", "rose"), ("houses", "house"), ("axes", "axe"), ("oases", "oasis")],
        *[("mice", "mouse"), ("geese", "goose"), ("children", "child"), ("women", "woman"), ("people", "person")],
        *[("leaves", "leaf"), ("wolves", "wolf"), ("knives", "knife"), ("roofs", "roof"), ("hooves", "hoof")],
        *[("magpies", "magpie"), ("pies", "pie"), ("berries", "berry"), ("moustaches", "moustache")],
        *[("gnus", "gnu"), ("taxis", "taxi"), ("kiwis", "kiwi"), ("plateaus", "plateau"), ("zoos", "zoo")],
        *[("cacti", "cactus"), ("cactuses", "cactus"), ("octopuses", "octopus"), ("vertices", "vertex")],
        *[("specimens", "specimen"), ("supernovas", "supernova"), ("operas", "opera")],
    ],
)
def test_both_numbers_of_a_noun_lead_to_one_form(plural, one):
    assert singular(plural) == singular(one)


@pytest.mark.parametrize(
    "word",
    [
        *("glass", "dress", "albatross", "compass", "cross", "grass", "bus", "walrus", "cactus", "octopus"),
        *(
            "fungus",
            "lens",
            "iris",
            "canvas",
            "gas",
            "atlas",
            "axis",
            "oasis",
            "ibis",
            "mantis",
            "rhinoceros",
            "thermos",
        ),
        *("scissors", "pliers", "series", "species", "chassis", "christmas", "mars", "tennis"),
    ],
)
def test_singular_words_in_s_stay(word):
    assert singular(word) == word


@pytest.mark.parametrize(("one", "other"), [("bus", "bu"), ("gas", "ga"), ("mars", "mar"), ("opera", "opus")])
def test_other_nouns_keep_apart(one, other):
    assert singular(one) != singular(other)


@given(st.text(max_size=30))
def test_any_text_has_a_form(text):
    assert isinstance(singular(text), str)


def test_the_library_of_plurals_is_imported_as_it_is_written():
    code = (
        "import typeguard; checked = typeguard.typechecked\n"
        "from line_neurons.agent.nouns import singular\n"
        "assert singular('magpies') == singular('magpie')\n"
        "import inflect\n"
        # What typeguard compiles again has its checks among the names.
        "assert 'typeguard' not in inflect.engine.plural_noun.__code__.co_names\n"
        "assert typeguard.typechecked is checked\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
