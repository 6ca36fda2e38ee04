"""The components of runs: opened from the settings, and reopened from the record of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.ports import Control, ControlSet, Generator, LanguageModel, Progress, Target
from line_neurons.agent.setting_groups.guidance import FROM_CONTROL_SET
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.guidance import Guide, guide_fingerprint, uses_guide
from line_neurons.graphs.loop.state import Deps, LLMOverride, stop_if_drained
from line_neurons.graphs.runs.phases import PhaseRecorder, loading_component
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.component_opening import generator_of, target_of
from line_neurons.tools.control_sets import PrecomputedControl, control_activations, open_control_set, remarks_of
from line_neurons.tools.control_sets.image_captions import CLASSES, ImageCaptions, class_captions
from line_neurons.tools.devices import idle_gpus
from line_neurons.tools.engines.engine import Engine, open_engine
from line_neurons.tools.engines.hands import recipe_of
from line_neurons.tools.engines.remote import RemoteGenerator, RemoteTarget
from line_neurons.tools.facets.control_vectors import control_vectors
from line_neurons.tools.guidance.words import candidate_words
from line_neurons.tools.image_bank.opening import open_bank_generator, open_image_bank, uses_image_bank
from line_neurons.tools.language_models.registry import open_language_model
from line_neurons.tools.store.queries import is_known_target
from line_neurons.tools.store.runs import RunStore, default_store, has_runs, open_store
from line_neurons.tools.target_specs import absolute_spec, display_spec, short_spec
from line_neurons.tools.targets.base import find_layer, layer_fingerprint
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.vocabulary import read_words

if TYPE_CHECKING:
    from langgraph.runtime import RunControl

    from line_neurons.tools.cache.events import CacheEvent
    from line_neurons.tools.image_bank.bank import Bank, Selection
    from line_neurons.tools.image_bank.generator import ImageBankGenerator
    from line_neurons.tools.image_bank.text_encoder import TextEncoder
    from line_neurons.tools.targets.base import ModelBundle
    from line_neurons.tools.targets.latents.target import UnitCode

BANK_IMAGES = 4
"""Default number of images of each class of the image bank's control set."""

COMPONENTS = frozenset({
    "engine", "target", "generator", "image_bank", "language_model", "control_set", "text_encoder", "candidates",
    "captioner", "cache", "runs",
})  # fmt: skip
"""Properties of ``Components`` that are opened when first read."""

OnProgress = Callable[[str, int, int], None]
"""Called during long work as ``(what, done, total)``."""


@dataclass(frozen=True)
class Components:
    """The components of runs on one model; each is opened when it is first read, and kept.

    Args:
        layers: the layers of the runs; all are measured in one forward pass.
        llm_overrides: by the seed of a request.
        bundle, code: a model and an autoencoder in memory; None where ``model`` and the settings name them.
        distributed: let the workers that the settings name generate and measure, if any; else this process does.
    """

    model: str
    settings: Settings
    on_progress: OnProgress | None = None
    layers: set[str] = field(default_factory=set)
    llm_overrides: dict[int, LLMOverride] = field(default_factory=dict)
    bundle: ModelBundle | None = None
    code: UnitCode | None = None
    phases: PhaseRecorder = field(default_factory=PhaseRecorder)
    distributed: bool = False

    def opened(self) -> dict[str, Any]:
        """Return the components that are open, by name."""
        return {name: value for name, value in vars(self).items() if name in COMPONENTS}

    def with_(self, **components: Any) -> Components:
        """Return a copy that has ``components`` in place of its own; what else is open is shared."""
        if unknown := components.keys() - COMPONENTS:
            raise TypeError(f"no component is named {', '.join(sorted(unknown))}")
        copy = replace(self)
        # A cached property is read from __dict__ first.
        vars(copy).update(self.opened() | components)
        return copy

    @cached_property
    def store(self) -> Path:
        """The folder of runs, images and checkpoints."""
        return self.settings.store or default_store()

    @cached_property
    def assets(self) -> Path:
        """The folder of asset packs."""
        return self.settings.assets or assets_root()

    @cached_property
    def engine(self) -> Engine | None:
        """The workers that generate and measure images; None where this process does."""
        if not (self.distributed and self.settings.uses_workers):
            return None
        recipe = recipe_of(self.settings, self.model, self.bundle, assets=self.assets, store=self.store)
        return open_engine(self.settings, recipe, self.layers, self._report)

    def _report(self, event: CacheEvent) -> None:
        # The cache is opened when there is something to say: what fails before leaves no store.
        self.cache.events.report(event)

    @cached_property
    def _remote(self) -> tuple[RemoteGenerator, RemoteTarget]:
        assert self.engine
        return self.engine.start(self.progress_for("starting workers"))

    def close(self) -> None:
        """Stop the workers, if there are any; they start again when they are needed."""
        if engine := vars(self).get("engine"):
            engine.stop()

    @cached_property
    def target(self) -> Target:
        """The vision model."""
        with loading_component(self.reporter(None), f"target {short_spec(self.model)}", self.settings.download):
            if self.engine:
                target: HookedTarget | RemoteTarget = self._remote[1]
            else:
                target = target_of(self.settings, self.model, self.bundle, self.assets, self.code)
        units = self.settings.max_concurrent_units
        idle = self.engine.remark(units) if self.engine else idle_gpus(self.settings) if self.distributed else ""
        news = target.note if self._is_news(target) else ""
        for note in filter(None, (news, *target.doubts, idle)):
            _warn_once(note)
        return target

    def _is_news(self, target: HookedTarget | RemoteTarget) -> bool:
        """Tell whether a note on the target was not yet shown: the store has no run of the same one."""
        # A store that cannot be read is reported where its runs are needed.
        with suppress(LineError):
            if target.note and has_runs(self.store):
                with closing(open_store(self.store)) as runs:
                    return not is_known_target(runs, target.fingerprint)
        return bool(target.note)

    @property
    def spec(self) -> str:
        """The spec that opens the same target again, with the version of its weights; recorded with a run."""
        return self._pinned or absolute_spec(self.model)

    @property
    def shown_model(self) -> str:
        """The user's name of the target, with the version of its weights or the hash of a checkpoint."""
        return display_spec(self._pinned or self.model, self.target.fingerprint)

    @property
    def _pinned(self) -> str:
        # Targets from outside this program have no such spec.
        return getattr(self.target, "spec", "")

    @cached_property
    def generator(self) -> Generator:
        """The generator of images."""
        with loading_component(
            self.reporter(None), f"generator {self.settings.generator}", self.settings.download
        ):
            if self.engine:
                return self._remote[0]
            bank = self.image_bank if self._uses_image_bank else None
            return generator_of(self.settings, self.assets, self.store, bank)

    def bank_generator(self, split: Selection) -> ImageBankGenerator:
        """Open the image bank as a generator of the images of one split."""
        return open_bank_generator(self.image_bank, self.settings, split, assets=self.assets, store=self.store)

    @property
    def _uses_image_bank(self) -> bool:
        return uses_image_bank(self.settings.generator)

    @cached_property
    def image_bank(self) -> Bank:
        """The image bank of the generator, or else the bundled one; also of the control set ``bank``."""
        return open_image_bank(self.settings, self.assets)

    @cached_property
    def language_model(self) -> LanguageModel:
        """The proposer."""
        self.reporter(None)(f"loading language model {self.settings.llm}", 0, 0)
        return open_language_model(
            self.settings.llm,
            settings=self.settings,
            assets=self.assets,
            cache=self.store / "replies.db",
            words=lambda: (
                self.image_bank.captions() if self._uses_image_bank else read_words(self.settings.vocabulary)
            ),
        )

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text encoder of the response model."""
        from line_neurons.tools.guidance.text_encoders import open_text_encoder

        return open_text_encoder(self.settings, self.assets)

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """The concepts that the response model chooses from."""
        absent = self.bank_generator("search").absent if self._uses_image_bank else None
        return candidate_words(self.settings, self.assets, lambda: self.image_bank, absent)

    @cached_property
    def control_set(self) -> ControlSet | PrecomputedControl | None:
        """The images that AUC and MAD compare with and that may fill first boards; None without a control set."""
        settings = self.settings
        if settings.class_names and settings.control in {"none", "bank"}:
            raise UsageError(
                f"class names are for a folder of class folders, and the control set is {settings.control!r}",
                "leave class_names away",
            )
        if settings.control == "none":
            return None
        self.reporter(None)(f"loading control set {settings.control}", 0, 0)
        if settings.control != "bank":
            spec = settings.control or ""
            return open_control_set(
                spec,
                images=settings.control_images,
                download=settings.download,
                digests=self.store / "digests.db",
                class_names=settings.class_names,
                value_range=settings.image_range,
            )
        from line_neurons.tools.image_bank.control import BankControl

        excluded = {concept_key(concept) for concept in settings.exclude}
        seed = settings.seed if settings.control_seed is None else settings.control_seed
        words = [
            caption
            for caption in self.image_bank.vocabulary(seed, settings.vocabulary_share)
            if concept_key(caption) not in excluded
        ]
        return BankControl(self.image_bank, words, m=settings.control_images or BANK_IMAGES)

    @cached_property
    def captioner(self) -> ImageCaptions | None:
        """The vision model that captions control images; None where ``init`` takes their classes or none.

        Raises:
            UsageError: the control set has no images, or the model cannot read any.
            MissingPartError: no server has the model.
        """
        settings = self.settings
        if settings.init != "images" or settings.captioner == CLASSES:
            return None
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.captions import OllamaCaptioner
        from line_neurons.tools.language_models.reply_cache import ReplyCache

        images = self.control_set
        if images is None or isinstance(images, PrecomputedControl):
            raise UsageError(
                f"the control set {settings.control} has no images to caption", f"use --captioner {CLASSES}"
            )
        name, cache = settings.captioner.partition(":")[2], ReplyCache(self.store / "replies.db")
        model = OllamaCaptioner(name, server_urls(settings.ollama), timeout=settings.timeout, cache=cache)
        return ImageCaptions(images, model.caption, model.fingerprint)

    @cached_property
    def cache(self) -> Cache:
        """The store's images and activations."""
        return Cache(self.store)

    @cached_property
    def runs(self) -> RunStore:
        """The store's runs."""
        return RunStore(self.store)

    def check(self, layer: str) -> None:
        """Check that pooling fits a layer, before anything is written.

        Raises:
            UsageError: it does not.
        """
        self.target.activate([], [layer])
        if isinstance(self.target, HookedTarget | RemoteTarget):
            self.target.check_classes()

    def check_control(self, layer: str) -> None:
        """Check that precomputed control activations fit a layer, before anything is written.

        Raises:
            UsageError: they do not.
        """
        if isinstance(self.control_set, PrecomputedControl):
            self.control(layer)

    def remarks(self) -> dict[str, tuple[str, ...]]:
        """Return what the image bank and the control set left out, by the name of either."""
        bank, control = (self.opened().get(name) for name in ("image_bank", "control_set"))
        return {"image bank": remarks_of(bank), f"control set {self.settings.control}": remarks_of(control)}

    def skipped(self) -> tuple[str, ...]:
        """Return the unreadable images of the image bank, where it is in use."""
        return tuple(self.image_bank.skipped) if "image_bank" in self.opened() else ()

    def image_notes(self) -> tuple[str, ...]:
        """Describe how images that are not ordinary 8-bit ones are read, a line for each kind."""
        sources = {"the image bank": self.opened().get("image_bank"), "the control set": self.control_set}
        return tuple(
            f"in {name}, {note}" for name, source in sources.items() for note in getattr(source, "image_notes", ())
        )

    def vocabulary(self) -> tuple[str, ...] | None:
        """Return the words that first boards are drawn from; None where a language model names them.

        Raises:
            UsageError: the control set has no classes, the word list cannot be read, or the store has no images
                of this generator.
        """
        init = self.settings.init
        if init in FROM_CONTROL_SET:
            classes = self.control_set.classes() if self.control_set else ()
            if not classes and init == "images" and self.captioner:
                return None
            if not classes:
                remarks = "".join(f"; {line}" for line in remarks_of(self.control_set))
                control = self.settings.control
                raise UsageError(
                    f"the images of the control set {control} have no classes to begin with{remarks}",
                    "start with --init vocabulary, cache or model",
                )
            return classes
        if init == "vocabulary":
            return read_words(self.settings.vocabulary)
        if init == "cache":
            concepts = tuple(self.cache.concepts(self.generator.fingerprint, self.settings.images))
            if not concepts:
                count = self.settings.images
                raise UsageError(
                    f"the store {self.store} has no concept with {count} images of this generator",
                    "start with --init control, vocabulary or model",
                )
            return concepts
        return None

    def control(self, layer: str, drain: RunControl | None = None) -> Control | None:
        """Return the control activations of a layer, measured once per store; None without a control set.

        Raises:
            DrainedError: ``drain`` requested a stop; activations measured so far are kept.
        """
        source = self.control_set
        if source is None:
            return None
        if isinstance(source, PrecomputedControl):
            return source.control(find_layer(self.target.layers(), layer, self.model).units, layer)
        layers = [layer, *sorted(self.layers - {layer})]
        return control_activations(
            self.cache, self.target, layers, source, self.progress_for("control set images", drain)
        )[layer]

    def deps(self, layer: str, vocabulary: Sequence[str] = (), drain: RunControl | None = None) -> Deps:
        """Return what the nodes of a run on ``layer`` work with; ``drain`` requests a stop."""
        control = lru_cache(lambda: self.control(layer, drain))
        return Deps(
            settings=self.settings,
            model=self.model,
            layer=layer,
            vocabulary=vocabulary,
            language_model=self.language_model,
            generator=self.generator,
            target=self.target,
            cache=self.cache,
            runs=self.runs,
            control=control,
            control_vectors=lru_cache(lambda: control_vectors(control())),
            guide=Guide(
                self.settings,
                lambda: self.candidates,
                lambda: self.text_encoder,
                control,
                self.store / "embeddings",
            ),
            captions=self.captioner.of if self.captioner else lambda rows: _captions(control(), rows),
            also_layers=sorted(self.layers - {layer}),
            on_image=self.progress_for("generating images"),
            drain=drain,
            llm_overrides=self.llm_overrides,
            workers=self.engine.status if self.engine else tuple,
        )

    def fingerprints(self, layer: str) -> dict[str, str]:
        """Return the fingerprint of each component, as recorded with a run on ``layer``."""
        guided = uses_guide(self.settings)
        guide = {"guide": guide_fingerprint(self.text_encoder, self.candidates)} if guided else {}
        return {
            "target": layer_fingerprint(self.target, layer),
            "generator": self.generator.fingerprint,
            "language_model": self.language_model.fingerprint,
            "control": self.control_set.fingerprint if self.control_set else "none",
            **guide,
            **({"captioner": self.captioner.fingerprint} if self.captioner else {}),
        }

    def identities(self) -> dict[str, dict[str, Any]]:
        """Return the values behind fingerprints that are only a hash, by component."""
        components = {
            "generator": self.generator,
            "language_model": self.language_model,
            "control": self.control_set,
        }
        known = {name: getattr(component, "identity", None) for name, component in components.items()}
        return {name: identity() for name, identity in known.items() if identity is not None}

    def progress_for(self, what: str, drain: RunControl | None = None) -> Progress | None:
        """Return a callback for long work named ``what``; it raises DrainedError once a stop is requested."""
        return None if self.on_progress is None and drain is None else partial(self.reporter(drain), what)

    def reporter(self, drain: RunControl | None) -> OnProgress:
        """Return a callback for long work; it raises DrainedError once a stop is requested."""

        def report(what: str, done: int, total: int) -> None:
            if self.on_progress:
                self.on_progress(what, done, total)
            self.phases.report(what, done, total)
            stop_if_drained(drain)

        return report


def _captions(control: Control | None, rows: Sequence[int]) -> list[str]:
    return class_captions(control, rows) if control else []


@lru_cache
def _warn_once(note: str) -> None:
    logging.getLogger(__name__).warning("%s", note)
