"""Whether maps point at the thing: the share, and where the thing is."""

import numpy as np
import pytest

from line_neurons.eval.pointing import pointing
from line_neurons.tools.targets.maps import WHOLE

THING = np.zeros((40, 40), bool)
THING[20:, 20:] = True


@pytest.mark.parametrize(("corner", "share"), [((1, 1), 1.0), ((0, 0), 0.0)])
def test_a_map_points_where_it_is_highest(corner, share):
    values = np.zeros((2, 2), np.float32)
    values[corner] = 1
    assert pointing(values, WHOLE, THING) == (share, 0.25)


def test_only_what_the_target_sees_counts():
    assert pointing(np.ones((2, 2), np.float32), (0.5, 0.5, 1, 1), THING) == (1.0, 1.0)
    assert pointing(np.ones((2, 2), np.float32), (0, 0, 0.5, 0.5), THING) == (0.0, 0.0)
