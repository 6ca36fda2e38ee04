"""Settings of what guides a search beside the language model: candidates, and the response model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from line_neurons.agent.diffusion_settings import absolute_path

WITHOUT_LANGUAGE_MODEL = frozenset({"near", "guided"})
"""Values of ``llm`` that choose among the candidates."""


FROM_CONTROL_SET = frozenset({"control", "images"})
"""Values of ``init`` that need a control set."""
FROM_LANGUAGE_MODEL = frozenset({"model", "images"})
"""Values of ``init`` that need a language model."""
MAX_PROPOSALS = 50
"""Most concepts of one request."""


class GuidanceSettings(BaseSettings):
    """What chooses, or helps to choose, the next concept."""

    hints_by: Literal["near", "improvement"] = Field(
        "near",
        description="Order of the hints: things near the best concepts, shuffled, or those with the highest "
        "expected improvement, best first.",
    )
    candidates: Literal["drawable", "vocabulary", "wordnet"] | None = Field(
        None,
        description="Concepts that hints by improvement, llm guided and llm near choose from: captions of the "
        "image bank, the word list, or WordNet's things; not set: drawable with an image bank, else vocabulary.",
    )
    text_encoder: str = Field(
        "minilm",
        description="Text encoder of the response model: minilm, generator (that of the text-to-image model), "
        "ollama:NAME or a folder.",
    )
    captioner: str = Field(
        "captions",
        description="Descriptions of control images for init images: captions (their captions or classes), or "
        "ollama:NAME, a vision model.",
    )
    proposals: int = Field(
        1,
        ge=1,
        le=MAX_PROPOSALS,
        description="Concepts that one request to the language model asks for; 1: as in the paper.",
    )
    generate: int = Field(
        1,
        ge=1,
        le=MAX_PROPOSALS,
        description="Number of them to generate and measure before the next request: those with the highest "
        "expected improvement; the others may follow later.",
    )
    until: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Stop a search when the expected improvement is below this share of the best score; 0: never.",
    )

    @model_validator(mode="after")
    def _enough_to_generate(self) -> Self:
        if self.generate > self.proposals:
            raise ValueError(f"generate {self.generate} is above proposals {self.proposals}")
        return self

    @field_validator("captioner")
    @classmethod
    def _is_captioner(cls, captioner: str) -> str:
        kind, _, model = captioner.partition(":")
        if captioner == "captions" or (kind == "ollama" and model):
            return captioner
        raise ValueError(f"{captioner!r:.80} is neither captions nor ollama:NAME")

    @field_validator("text_encoder")
    @classmethod
    def _encoder_from_anywhere(cls, encoder: str) -> str:
        """Make a folder absolute; a bare name that is no folder must be a known one."""
        kind, _, model = encoder.partition(":")
        if encoder in {"minilm", "generator"} or (kind == "ollama" and model):
            return encoder
        if "/" not in encoder and not Path(encoder).is_dir():
            raise ValueError(f"{encoder!r:.80} is none of minilm, generator, ollama:NAME and a folder")
        return absolute_path(encoder)


def check_init(init: str, llm: str) -> None:
    """Check that there is a language model where the initial scoreboard needs one.

    Raises:
        ValueError: there is none.
    """
    if init in FROM_LANGUAGE_MODEL and llm in WITHOUT_LANGUAGE_MODEL:
        raise ValueError(f"init {init} needs a language model, and llm is {llm}")


def promises_little(expected: float, best: float, until: float) -> bool:
    """Return whether an expected improvement is known, and below the share ``until`` of the best score.

    Args:
        expected: the expected improvement; negative where it is not known.
    """
    return 0 <= expected < until * abs(best)
