import pytest

from line_neurons.tui.formatting import drawn_from


def made(file, caption="hammer", similarity=1.0, **more):
    return {"subjects": [{"caption": caption, "similarity": similarity, "file": file, **more}]}


@pytest.mark.parametrize(
    ("provenances", "text"),
    [
        ([], ""),
        ([{"subjects": "spoilt"}, {}], ""),
        ([made("stamps/a.png"), made("stamps/a.png")], "hammer (1 image)"),
        ([made("a.png"), made("b.png", "mallet", 0.8)], "hammer, mallet 0.80 (2 images)"),
        (
            [
                made("stamps/a.png", source="stamp of Tux Paint"),
                made("icons/a.png", source='icon of the 3D model "Hammer" by Scopia, CC-BY-3.0'),
                made("icons/b.png", source='icon of the 3D model "Mallet" by Scopia, CC-BY-3.0'),
            ],
            "hammer (2 icons, 1 stamp)",
        ),
        ([made("a.png", source="\x1b[31micon of x")], "hammer (1 [31micon)"),
    ],
)
def test_the_images_behind_a_concept_are_counted_by_what_they_are(provenances, text):
    assert drawn_from(provenances) == text
