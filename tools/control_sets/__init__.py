"""Control sets: images, or their activations, that a unit is ranked on and compared with."""

from line_neurons.tools.control_sets.activations import control_activations
from line_neurons.tools.control_sets.precomputed import PrecomputedControl
from line_neurons.tools.control_sets.registry import open_control_set, remarks_of

__all__ = ["PrecomputedControl", "control_activations", "open_control_set", "remarks_of"]
