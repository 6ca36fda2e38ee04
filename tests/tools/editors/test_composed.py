"""The exact editor of the image bank."""

import numpy as np
import pytest

from line_neurons.agent.errors import AbsentConceptError, NotDrawableError, UneditableError, UsageError
from line_neurons.agent.ports import EditRequest
from line_neurons.agent.prompts import image_requests
from line_neurons.agent.settings import Settings
from line_neurons.tools.editors.composed import ComposedEditor
from line_neurons.tools.editors.registry import EditorParts, open_editor
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from support.edit_parts import SIZE, WordEncoder, edit_bank, pixels_of


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return ImageBankGenerator(
        edit_bank(tmp_path_factory.mktemp("bank")), WordEncoder(), settings=BankSettings(size=SIZE)
    )


@pytest.fixture
def editor(generator):
    return ComposedEditor(generator)


def request(generator, shown, kind, concept, other="", index=0):
    source = image_requests(shown, 1, 0, first=index)[0]
    (image,) = generator.synthesize([source])
    return EditRequest(image.png, kind, concept, other, seed=3, source=source)


@pytest.mark.parametrize("index", range(4))
def test_each_kind_of_edit_does_what_it_says(generator, editor, index):
    def edited(kind, concept, other=""):
        asked = request(generator, "tomato", kind, concept, other, index)
        return pixels_of(asked.image), pixels_of(editor.edit(asked).png)

    def amount(pixels, channel):
        return (pixels[..., channel] - np.delete(pixels, channel, 2).max(-1) > 60).sum()

    image, removed = edited("remove", "tomato")
    assert amount(image, 0) > 20 > amount(removed, 0)
    image, replaced = edited("replace", "tomato", "lime")
    assert amount(replaced, 0) < 20 < amount(replaced, 1)
    assert (edited("insert", "lime")[1] == replaced).all()
    image, unchanged = edited("unchanged", "tomato")
    assert (image == unchanged).all()


def test_the_control_edit_changes_as_much_and_leaves_the_thing(generator, editor):
    for index in range(12):
        asked = request(generator, "tomato", "elsewhere", "tomato", index=index)
        try:
            edited = editor.edit(asked)
        except UneditableError as error:
            assert "no room" in str(error)
            continue
        image, moved = pixels_of(asked.image), pixels_of(edited.png)
        without = pixels_of(editor.edit(request(generator, "tomato", "remove", "tomato", index=index)).png)
        thing = np.abs(image - without).max(-1) > 8
        assert (image == moved)[thing].all()
        assert edited.provenance["share"] <= thing.mean()
        return
    pytest.fail("no image of the twelve has room")


def test_what_an_image_does_not_show_cannot_be_taken_out(generator, editor):
    with pytest.raises(AbsentConceptError, match=r"shows 'tomato', not 'lime'"):
        editor.edit(request(generator, "tomato", "remove", "lime"))
    with pytest.raises(NotDrawableError, match="xylophone"):
        editor.edit(request(generator, "tomato", "remove", "xylophone"))
    with pytest.raises(NotDrawableError, match="whole photograph"):
        editor.edit(request(generator, "sea", "remove", "sea"))
    with pytest.raises(UneditableError, match="weather"):
        editor.edit(request(generator, "tomato", "remove", "fog"))
    with pytest.raises(AbsentConceptError, match="backdrop shows no scene, not 'meadow'"):
        editor.edit(request(generator, "tomato in the studio", "remove", "grass"))


@pytest.mark.parametrize(("kind", "concept"), [("remove", "grass"), ("elsewhere", "meadow")])
def test_a_place_is_changed_and_the_thing_stays(generator, editor, kind, concept):
    asked = request(generator, "tomato in the grass", kind, concept)
    image, edited = pixels_of(asked.image), pixels_of(editor.edit(asked).png)
    without = pixels_of(editor.edit(request(generator, "tomato in the grass", "remove", "tomato")).png)
    thing = (image[..., 0] > 150) & (np.abs(image - without).max(-1) > 100)
    assert thing.mean() > 0.05
    # What is around the thing changes, and its middle does not.
    assert (np.abs(edited - image)[thing].max(-1) <= 8).mean() > 0.9
    assert np.abs(edited - image)[~thing].mean() > 2
    assert pixels_of(editor.edit(asked).png).tobytes() == edited.tobytes()


def test_a_place_is_put_behind_a_thing(generator, editor):
    asked = request(generator, "tomato in the studio", "insert", "grass")
    edited = editor.edit(asked)
    assert edited.provenance["background"]["caption"] == "grass"
    assert (editor.scene_of("grass"), editor.scene_of("tomato"), editor.scene_of("fog")) == ("meadow", "", "")
    assert editor.scene_of("xylophone") == ""


def test_it_offers_cut_outs_only(editor):
    assert [editor.offers(word) for word in ("lime", "sea", "xylophone", "meadow")] == [True, False, False, False]


def test_only_images_of_a_bank_are_composed(tmp_path):
    parts = EditorParts(Settings(generator="sdxl-turbo"), tmp_path, object)
    with pytest.raises(UsageError, match="needs an image bank, and the generator is 'sdxl-turbo'"):
        open_editor("composed", parts)
    with pytest.raises(UsageError, match=r"there is no editor 'composd'.*near: composed"):
        open_editor("composd", parts)
