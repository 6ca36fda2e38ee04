"""Tell whether the demo, a run with the settings in force and the evaluation can start, from the findings."""

from __future__ import annotations

from collections.abc import Sequence

from line_neurons.agent.settings import Settings
from line_neurons.tools.assets.packs import GROUPS
from line_neurons.tools.doctor.findings import Finding, Status
from line_neurons.tools.image_bank.bank import BUNDLED, PACKS, RENDER
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.language_models.registry import EMBEDDED

_ALWAYS = ("python", "torch", "langgraph", "pillow", "sqlite", "store")
_BANK = ("transformers", "assets minilm")
_DEMO = (*_ALWAYS, "xllamacpp", "transformers", "target works", *(f"assets {pack}" for pack in GROUPS["demo"]))
_EVALUATION = ("assets wordnet",)
"""WordNet names the classes of units; ``line eval cosy`` needs no more than a run."""


def readiness(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Return whether demo, default run and evaluation can start, or what is missing and what installs it."""
    workers = ("ray",) if settings.ray else ()
    run = (*_ALWAYS, *_language_model(settings.llm), *_images(settings), *workers)
    named = f"--llm {settings.llm}, --generator {settings.generator}"
    of_run = _verdict("default run", named, run, findings, "missing")
    needs_run = Finding(of_run.part, of_run.status, "cannot start" if of_run.status != "ok" else "", of_run.remedy)
    return [
        _verdict("demo", "line demo", _DEMO, findings, "warn"),
        of_run,
        _verdict("evaluation", "line eval", (of_run.part, *_EVALUATION), [*findings, needs_run], "warn"),
    ]


def _language_model(spec: str) -> tuple[str, ...]:
    kind, _, name = spec.partition(":")
    if kind == "embedded":
        return ("xllamacpp", f"assets {name or next(iter(EMBEDDED))}")
    return (kind,) if kind in {"ollama", "openai"} else ()


def _images(settings: Settings) -> tuple[str, ...]:
    bank = uses_image_bank(settings.generator)
    needed = renderer_packages(settings) if bank else ("text-to-image",)
    if not bank and settings.control != "bank":
        return needed
    return (*needed, *_BANK, *(f"assets {pack}" for pack in BUNDLED.get(settings.generator, PACKS)))


def renderer_packages(settings: Settings) -> tuple[str, ...]:
    """Return the packages that the generator of settings renders with, if it does."""
    return ("mitsuba", "pyoidn") if RENDER in BUNDLED.get(settings.generator, ()) else ()


def _verdict(what: str, named: str, parts: Sequence[str], findings: Sequence[Finding], status: Status) -> Finding:
    # A note on the store stops nothing; of other parts it says that they cannot be used.
    usable = {part: {"ok", "warn"} if part == "store" else {"ok"} for part in parts}
    stops = [
        finding for finding in findings if finding.part in usable and finding.status not in usable[finding.part]
    ]
    if not stops:
        return Finding(what, "ok", f"ready ({named})")
    details = dict.fromkeys(
        f"{stop.part}: {stop.detail}".removesuffix("; not needed for the demo") for stop in stops
    )
    remedies = dict.fromkeys(stop.remedy for stop in stops if stop.remedy)
    return Finding(what, status, f"not ready ({named}): {'; '.join(details)}", "; ".join(remedies))
