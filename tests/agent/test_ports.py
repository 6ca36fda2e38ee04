import dataclasses
import inspect
import pickle

import numpy as np
import pytest

from line_neurons.agent import ports
from line_neurons.agent.ports import (
    Control,
    ControlChunk,
    DrawnImage,
    EditRequest,
    ImageRequest,
    LayerInfo,
    Message,
    Prompt,
    Proposal,
)

RECORDS = [
    Message("user", "Scoreboard: ..."),
    Prompt((Message("system", "Answer with JSON."), Message("user", "...")), shared=1),
    Proposal("birds of prey", "owl", '{"reasoning": "birds of prey", "concept": "owl"}'),
    ImageRequest("owl", "low angle", "studio lighting", 7, "a {concept}"),
    DrawnImage(b"PNG", {"steps": 25}, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), composed=True),
    LayerInfo("layer4.1", "Conv2d", (512, 7, 7), 512, "tokens"),
    Control(("cat", "owl"), np.array([0, 1, -1]), np.ones((3, 2), np.float32), ("broken.jpg",)),
    EditRequest(b"PNG", "replace", "owl", "eagle", 3, ImageRequest("owl", "", "", 7, "a {concept}"), "1.png"),
    ControlChunk((b"JPEG",), (-1,), ("broken.jpg: truncated",)),
]


def test_every_record_has_an_example():
    classes = (kind for _, kind in inspect.getmembers(ports, inspect.isclass) if kind.__module__ == ports.__name__)
    kinds = {kind for kind in classes if dataclasses.is_dataclass(kind)}
    assert {type(record) for record in RECORDS} == kinds


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_leaves_its_process_as_itself(record):
    arrived = pickle.loads(pickle.dumps(record))
    assert type(arrived) is type(record)
    for field in dataclasses.fields(record):
        np.testing.assert_equal(getattr(arrived, field.name), getattr(record, field.name))
