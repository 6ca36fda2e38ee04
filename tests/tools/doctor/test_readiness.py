from dataclasses import replace

import pytest

from line_neurons.agent.settings import revised
from line_neurons.tools.assets.packs import PACKS
from line_neurons.tools.doctor.findings import Finding
from line_neurons.tools.doctor.readiness import readiness

PARTS = ["python", "torch", "device", "target works", "text-to-image", "xllamacpp", "transformers", "langgraph",
         "pillow", "sqlite", "terminal", *(f"assets {pack.name}" for pack in PACKS), "store", "disk", "memory",
         "ollama"]  # fmt: skip
SOUND = [Finding(part, "ok", "1.0") for part in PARTS]


def ready(*lacking: Finding, **settings: object) -> dict[str, bool]:
    """Which of the three can start, where some parts are not sound."""
    by_part = {finding.part: finding for finding in (*SOUND, *lacking)}
    return {
        verdict.part: verdict.status == "ok" for verdict in readiness([*by_part.values()], revised({}, settings))
    }


def lack(part: str, status: str = "warn") -> Finding:
    return Finding(part, status, "not here", "line install it")


def test_all_can_start_where_all_is_sound():
    assert ready() == {"demo": True, "default run": True, "evaluation": True}


@pytest.mark.parametrize(
    ("finding", "settings", "expected"),
    [
        (lack("ollama"), {}, (True, False, False)),
        (lack("text-to-image"), {}, (True, False, False)),
        (lack("ollama"), {"llm": "embedded"}, (True, True, True)),
        (lack("text-to-image"), {"generator": "bank"}, (True, True, True)),
        (lack("assets photos", "missing"), {"init": "vocabulary"}, (False, True, True)),
        (lack("assets photos", "missing"), {"generator": "bank", "init": "vocabulary"}, (False, False, False)),
        (lack("assets photos", "missing"), {"generator": "render", "init": "model"}, (False, True, True)),
        (lack("assets render", "missing"), {"generator": "render", "init": "model"}, (True, False, False)),
        (lack("pyoidn", "missing"), {"generator": "render", "init": "model"}, (True, False, False)),
        (lack("pyoidn", "missing"), {"generator": "bank"}, (True, True, True)),
        (lack("assets qwen2.5-coder-1.5b", "missing"), {}, (False, True, True)),
        (lack("assets smollm2-135m"), {"llm": "embedded:smollm2-135m"}, (True, False, False)),
        (lack("assets wordnet"), {}, (True, True, False)),
        (lack("torch", "broken"), {}, (False, False, False)),
        (lack("store"), {}, (True, True, True)),
        (lack("store", "broken"), {}, (False, False, False)),
        (lack("terminal"), {}, (True, True, True)),
        (lack("ray"), {}, (True, True, True)),
        (lack("ray"), {"ray": "local"}, (True, False, False)),
    ],
)
def test_what_is_lacking_stops_what_needs_it(finding, settings, expected):
    assert tuple(ready(finding, **settings).values()) == expected


def test_a_verdict_names_what_is_missing_and_what_installs_it():
    _, run, evaluation = readiness([*SOUND, replace(lack("ollama"), detail="no server; not needed for the demo")],
                                   revised({}, {}))  # fmt: skip
    assert run.status == "missing"
    assert run.detail == "not ready (--llm ollama:llama3.1:8b, --generator sdxl): ollama: no server"
    assert run.remedy == evaluation.remedy == "line install it"
