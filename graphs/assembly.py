"""Put a run's parts together from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, ControlSet, Generator, LanguageModel, Progress, Target
from line_neurons.agent.proposal import concept_key
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.graphs.state import Deps
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.concept_bank import ConceptBank
from line_neurons.tools.control_sets import FolderControlSet, control_activations
from line_neurons.tools.language_models.registry import open_language_model
from line_neurons.tools.run_store import Run, RunStore, default_store
from line_neurons.tools.targets.registry import open_target

if TYPE_CHECKING:
    from line_neurons.tools.image_bank.bank import Bank

_RECORDED = (
    "line-neurons",
    "langgraph",
    "torch",
    "torchvision",
    "transformers",
    "xllamacpp",
    "numpy",
    "pillow",
)


Preparing = Callable[[str, int, int], None]
"""Told of long preparations as ``(what, done, total)``."""


@dataclass(frozen=True)
class Parts:
    """The parts of a run on one model; each is opened when it is first needed, and kept.

    Args:
        model: the target's spec.
        settings: the run's settings.
        progress: told of long preparations as ``(what, done, total)``.
    """

    model: str
    settings: Settings
    progress: Preparing | None = None

    @cached_property
    def store(self) -> Path:
        """The folder of runs, pictures and checkpoints."""
        return self.settings.store or default_store()

    @cached_property
    def assets(self) -> Path:
        """The folder of asset packs."""
        return self.settings.assets or assets_root()

    @cached_property
    def target(self) -> Target:
        """The vision model."""
        settings = self.settings
        return open_target(
            self.model,
            assets=self.assets,
            weights=settings.weights,
            pooling=settings.pooling,
            tokens=settings.tokens,
            device=settings.device,
            batch_size=settings.batch_size,
            download=settings.download,
        )

    @cached_property
    def generator(self) -> Generator:
        """The source of pictures."""
        from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
        from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

        threshold = self.settings.threshold
        return ImageBankGenerator(
            self.pictures,
            SentenceEncoder(self.assets / "minilm"),
            settings=BankSettings() if threshold is None else BankSettings(threshold=threshold),
            cache=self.store / "embeddings",
        )

    @cached_property
    def pictures(self) -> Bank:
        """The image bank behind the generator and the bank's control set."""
        kind, colon, folder = self.settings.generator.partition(":")
        if kind != "bank" or (colon and not folder):
            raise UsageError(f"there is no generator {self.settings.generator!r:.80}", "use bank, or bank:FOLDER")
        if folder:
            from line_neurons.tools.image_bank.folder import open_bank

            return open_bank(folder)
        from line_neurons.tools.image_bank.bundled import bundled_bank

        return bundled_bank(self.assets)

    @cached_property
    def language_model(self) -> LanguageModel:
        """The proposer."""
        settings = self.settings
        return open_language_model(
            settings.llm,
            assets=self.assets,
            cache=self.store / "replies.db",
            top_p=settings.top_p,
            words=self.pictures.captions,
        )

    @cached_property
    def control_set(self) -> ControlSet:
        """The pictures behind the first board and behind AUC and MAD."""
        settings = self.settings
        if settings.control != "bank":
            return FolderControlSet(Path(settings.control).expanduser())
        from line_neurons.tools.image_bank.control import BankControl

        excluded = {concept_key(concept) for concept in settings.exclude}
        words = [
            caption
            for caption in self.pictures.vocabulary(settings.seed, settings.vocabulary_share)
            if concept_key(caption) not in excluded
        ]
        return BankControl(self.pictures, words, m=settings.control_images)

    @cached_property
    def bank(self) -> ConceptBank:
        """The store's pictures and activations."""
        return ConceptBank(self.store)

    @cached_property
    def runs(self) -> RunStore:
        """The store's runs."""
        return RunStore(self.store)

    def control(self, layer: str) -> Control:
        """The control activations of a layer, computed once for a store."""
        return control_activations(self.bank, self.target, layer, self.control_set, self._told("control set"))

    def deps(self, layer: str) -> Deps:
        """What the nodes of a run on ``layer`` work with."""
        kept: list[Control] = []

        def control() -> Control:
            if not kept:
                kept.append(self.control(layer))
            return kept[0]

        return Deps(
            settings=self.settings,
            layer=layer,
            language_model=self.language_model,
            generator=self.generator,
            target=self.target,
            bank=self.bank,
            runs=self.runs,
            control=control,
        )

    def fingerprints(self) -> dict[str, str]:
        """The identity of each part, as it is recorded with the run."""
        return {
            "target": self.target.fingerprint,
            "generator": self.generator.fingerprint,
            "language_model": self.language_model.fingerprint,
            "control": self.control_set.fingerprint,
        }

    def _told(self, what: str) -> Progress | None:
        tell = self.progress
        return (lambda done, total: tell(what, done, total)) if tell else None


def reopen(run: Run, store: Path | None, assets: Path | None, preparing: Preparing | None = None) -> Parts:
    """The parts of a recorded run, with its own settings.

    Raises:
        UsageError: a part is no longer the one that the run began with.
    """
    settings = Settings.model_validate({**run.settings, "store": store, "assets": assets})
    parts = Parts(run.model, settings, preparing)
    now = parts.fingerprints()
    for part, before in run.fingerprints.items():
        if now.get(part) != before:
            raise UsageError(
                f"the {part.replace('_', ' ')} of run {run.id} has changed since it began: "
                f"{before!r:.60} then, {now.get(part)!r:.60} now",
                "install what the run began with, or start a new run",
            )
    return parts


@lru_cache(maxsize=1)
def recorded_deps(run: str) -> Deps:
    """What the nodes of a recorded run work with, for a server that runs the graph without handing it over.

    Args:
        run: id of a run in the store that line.toml or the environment names.
    """
    settings = load_settings()
    found = RunStore(settings.store or default_store(), read_only=True).run(run)
    return reopen(found, settings.store, settings.assets).deps(found.layer)


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide a run's result."""
    found = {}
    for package in _RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
