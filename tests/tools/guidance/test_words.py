import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.guidance.words import candidate_words, noun_words

# Offset, lexicographer file, words, pointers and gloss, as in WordNet's data.noun.
SYNSETS = (
    ("00000010", "05", ("zebra",), "@ 00000001 n 0000", "striped animal"),
    ("00000020", "05", ("Equus", "genus_Equus"), "@ 00000001 n 0000", "type genus of the Equidae"),
    ("00000030", "06", ("car", "motorcar"), "@ 00000001 n 0000", "a vehicle"),
    ("00000040", "06", ("cable_car", "car"), "@ 00000001 n 0000", "a cabin on a cable"),
    ("00000050", "09", ("idea",), "@ 00000001 n 0000", "a thought"),
    ("00000060", "17", ("Everest",), "@i 00000001 n 0000", "a mountain peak"),
    ("00000070", "18", ("bride",), "@ 00000001 n 0000", "a woman who marries"),
    ("00000080", "18", ("alderman",), "@ 00000001 n 0000", "a member of a council"),
)
TAGGED = {"bride"}


@pytest.fixture
def wordnet(tmp_path):
    folder = tmp_path / "wordnet"
    folder.mkdir()
    data, senses = [], {}
    for offset, kind, words, pointer, gloss in SYNSETS:
        named = " ".join(f"{word} 0" for word in words)
        data.append(f"{offset} {kind} n {len(words):02x} {named} 001 {pointer} | {gloss}")
        for word in words:
            senses.setdefault(word.lower(), []).append(offset)
    index = [
        f"{word} n {len(found)} 1 @ {len(found)} {int(word in TAGGED)} {' '.join(found)}"
        for word, found in senses.items()
    ]
    (folder / "data.noun").write_text("  1 licence\n" + "\n".join(data))
    (folder / "index.noun").write_text("  1 licence\n" + "\n".join(index))
    return tmp_path


def test_wordnets_things_by_the_first_word_of_which_they_are_the_usual_sense(wordnet):
    assert noun_words(wordnet / "wordnet") == ["zebra", "car", "cable_car", "bride"]


def test_wordnet_that_is_not_installed_names_its_pack(tmp_path):
    with pytest.raises(MissingPartError) as caught:
        noun_words(tmp_path)
    assert caught.value.remedy == "line assets install wordnet"


class Bank:
    def captions(self, split):
        return ("zebra", "Tiger", "a bird on a wire in the rain", "tigers") if split == "search" else ()


def words(tmp_path, absent=None, **settings):
    return candidate_words(Settings(**settings), tmp_path, Bank, absent)


def test_an_image_bank_offers_what_it_can_draw_as_concepts(tmp_path):
    assert words(tmp_path, lambda words: [], generator="bank") == ("tiger", "zebra")


def test_other_generators_offer_the_word_list_and_a_bank_those_of_it_that_it_can_draw(tmp_path):
    (tmp_path / "words.txt").write_text("zebra\nlion\nowl\n")
    given = {"vocabulary": tmp_path / "words.txt", "init": "vocabulary"}
    assert words(tmp_path, **given) == ("lion", "owl", "zebra")
    drawable = words(tmp_path, lambda words: ["lion"], generator="bank", candidates="vocabulary", **given)
    assert drawable == ("owl", "zebra")


def test_wordnet_offers_its_things(wordnet):
    assert words(wordnet, candidates="wordnet") == ("bride", "cable car", "car", "zebra")


@pytest.mark.parametrize(
    ("settings", "said", "remedy"),
    [
        ({"candidates": "drawable"}, "the generator sdxl makes images of anything", "vocabulary or wordnet"),
        ({"candidates": "wordnet", "generator": "bank"}, "few of WordNet's nouns", "--candidates drawable"),
    ],
)
def test_candidates_that_do_not_fit_the_generator_are_refused(tmp_path, settings, said, remedy):
    with pytest.raises(UsageError, match=said) as caught:
        words(tmp_path, **settings)
    assert remedy in caught.value.remedy


def test_a_list_of_one_word_leaves_nothing_to_choose_from(tmp_path):
    (tmp_path / "words.txt").write_text("zebra\nzebras\n")
    with pytest.raises(UsageError, match="the only candidate is 'zebra'") as caught:
        words(tmp_path, vocabulary=tmp_path / "words.txt", init="vocabulary")
    assert "--vocabulary" in caught.value.remedy
