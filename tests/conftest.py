import line_neurons.tools  # noqa: F401 - sets how idle threads wait before anything loads torch
