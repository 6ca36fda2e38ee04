"""Why a proposal was refused, as users read it."""

import pytest

from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal

SENT = '"jazz" cannot be pictured'
SAID = '"jazz" cannot be generated'


@pytest.mark.parametrize(
    ("outcome", "detail", "why"),
    [
        ("not_drawable", {"reason": f"{SENT}; near it: a, b.", "nearest": [["trumpet", 0.51], ["fire", 0.38]]},
         f"{SAID}; near it: trumpet 0.51"),
        ("not_drawable", {"reason": f"{SENT}; near it: fire.", "nearest": [["fire", 0.38]]}, SAID),
        # As earlier versions recorded it.
        ("not_drawable", {"reason": f"{SAID}; near it: trumpet, fire."}, SAID),
        ("not_drawable", {"nearest": [["trumpet", 0.51]]}, "it cannot be generated; near it: trumpet 0.51"),
        ("not_drawable", {"nearest": [["fire", 0.38]]}, ""),
        ("not_drawable", {"nearest": ["fire", ["fire"], None, [0.9, "fire"]]}, ""),
        ("not_drawable", {"reason": "'fog' came out as one plain colour."}, "'fog' came out as one plain colour"),
        ("duplicate", {"reason": '"owl" was tried already.'}, '"owl" was tried already.'),
        ("scored", None, ""),
    ],
)  # fmt: skip
def test_only_what_is_near_is_named_with_its_similarity(outcome, detail, why):
    assert reason_of_refusal(Step("run", 0, 1, 0, "iteration", outcome, "jazz", detail=detail)) == why
