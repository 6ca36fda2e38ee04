"""Records of the run store: runs, units, steps and trials, and how their rows are encoded and decoded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from line_neurons.agent.errors import DamagedError, StoreError, reason_of
from line_neurons.agent.settings_sources import current_names
from line_neurons.agent.text import clean_text, storable_text
from line_neurons.tools.json_text import invalid_field, loads
from line_neurons.tools.label_marks import Mark, read_marks
from line_neurons.tools.target_specs import canonical_fingerprint, display_spec, short_spec, versioned_spec

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,120}")
_JSON_COLUMNS = {"settings", "fingerprints", "versions", "vocabulary", "images", "board", "detail"}
# Empty values of columns that always hold something.
_ABSENT: dict[str, Any] = {
    **{name: {} for name in ("settings", "fingerprints", "versions")},
    **dict.fromkeys(("images", "board"), ()),
    **dict.fromkeys(("error", "reasoning", "reply", "command"), ""),
}


@dataclass(frozen=True)
class Run:
    """A run: one target layer, some units, one set of settings.

    ``vocabulary`` holds the words that the initial board is sampled from; None where a language model names them,
    and in records of older versions where they are a control set's classes. ``status`` is ``pending``,
    ``running``, ``finished``, ``interrupted`` or ``failed``; times are seconds since the epoch. A fork continues
    from the state of unit ``forked_unit`` of run ``forked_from`` after step ``forked_step``.
    """

    id: str
    model: str
    layer: str
    seed: int
    status: str
    created: float
    settings: dict[str, Any]
    fingerprints: dict[str, Any]
    versions: dict[str, Any]
    command: str = ""
    vocabulary: tuple[str, ...] | None = None
    finished: float | None = None
    error: str = ""
    forked_from: str | None = None
    forked_unit: int | None = None
    forked_step: int | None = None

    def __post_init__(self) -> None:
        plain_name(self.id)

    @property
    def shown_model(self) -> str:
        """The model's spec with the version of its weights or, of a custom checkpoint, the start of its hash."""
        return display_spec(self.model, str(self.fingerprints.get("target", "")))

    @property
    def target_name(self) -> str:
        """The same for the screen: of a file or folder only the name."""
        return display_spec(short_spec(self.model), str(self.fingerprints.get("target", "")))

    @property
    def concluded(self) -> bool:
        """Whether nothing of the run is left to do; of a failed one, whether all its units were processed.

        ``finished`` alone tells neither: earlier versions left it in place where a run was resumed.
        """
        return self.status == "finished" or (self.status == "failed" and self.finished is not None)


@dataclass(frozen=True)
class Unit:
    """A unit of a run and, once it is finished, its label.

    ``status`` is ``pending``, ``running``, ``finished``, ``interrupted`` or ``failed``; a failed unit is repeated
    only on request. A unit that is done and has no label is ``dead`` (its activation is 0 on every image),
    ``constant`` (another value, the same on every image) or ``undecided`` (all concepts score the same).
    ``initial_label`` is the best concept of the initial board; ``discovered`` says that the label was not in the
    initial vocabulary. ``images`` are ids of the label's images; ``auc_low`` and ``auc_high`` are the 95 %
    interval of ``auc``, and ``density`` is the share of the control images on which the unit is above 0. ``note``
    tells what is wrong with the unit or its label, None in records of older versions; see ``marks``.
    ``second_label`` is the best concept that shares no word with the label; ``steps`` counts the unit's iterations
    and summaries. ``search_label`` and ``search_score`` are the result of the unit's own search; where a revisit
    found better, ``origin`` is ``revisit`` and the label comes from unit ``found_by`` of run ``found_in``.
    """

    run: str
    unit: int
    position: int
    status: str = "pending"
    name: str | None = None
    label: str | None = None
    score: float | None = None
    origin: str | None = None
    label_step: int | None = None
    discovered: bool | None = None
    initial_label: str | None = None
    initial_score: float | None = None
    auc: float | None = None
    mad: float | None = None
    seconds: float = 0.0
    error: str = ""
    images: tuple[str, ...] = ()
    second_label: str | None = None
    second_score: float | None = None
    steps: int | None = None
    found_by: int | None = None
    found_in: str | None = None
    search_label: str | None = None
    search_score: float | None = None
    note: str | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    density: float | None = None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What is wrong with the unit or its label."""
        return read_marks(self.note, self.auc)

    @property
    def margin(self) -> float | None:
        """How much the label's score exceeds that of the best initial label; at least 0."""
        if self.score is None or self.initial_score is None:
            return None
        return self.score - self.initial_score


@dataclass(frozen=True)
class Step:
    """One entry of a unit's history.

    ``kind`` is ``initial`` (one entry for each concept), ``iteration``, ``summary``, or ``revisit`` for a label
    that another unit found; ``step`` keeps counting over restarts. ``outcome`` is ``scored``, ``duplicate``,
    ``invalid``, ``not_drawable``, ``withdrawn`` (a user asked for another proposal) or ``stalled``. ``origin`` is
    ``predefined``, ``proposed``, ``summary``, ``revisit``, or ``typed`` by a user. ``board`` is the board after
    the step as [concept, score] pairs, best first; ``images`` are ids of cached images; ``seconds`` is how long
    the language model took, ``model`` its fingerprint, and ``prompt`` the hash of the prompt that was sent.
    """

    run: str
    unit: int
    step: int
    attempt: int
    kind: str
    outcome: str
    concept: str | None = None
    score: float | None = None
    reasoning: str = ""
    reply: str = ""
    origin: str | None = None
    images: tuple[str, ...] = ()
    board: tuple[tuple[str, float], ...] = ()
    removed: str | None = None
    seed: int | None = None
    temperature: float | None = None
    seconds: float | None = None
    model: str | None = None
    detail: dict[str, Any] | None = None
    created: float = 0.0
    prompt: str | None = None

    @property
    def name(self) -> str:
        """Its name as in the paper: S for the summary, R for a revisit, 0 for the initial scoreboard."""
        return {"summary": "S", "revisit": "R"}.get(self.kind, str(self.step))


class Trial(NamedTuple):
    """An entry of a unit's own search, without prompt and reply; see ``Step``."""

    unit: int
    step: int
    attempt: int
    kind: str
    concept: str | None
    score: float | None
    origin: str | None
    images: tuple[str, ...]


def score_of(entry: Trial) -> float:
    """Return a trial's score; below every other where it has none."""
    return float("-inf") if entry.score is None else entry.score


Row = TypeVar("Row", Run, Unit, Step)


def is_plain_name(run: str) -> bool:
    """Return whether a text can be the name of a run."""
    return _PLAIN.fullmatch(run) is not None


def plain_name(run: str) -> str:
    """Return the name of a run if it has only letters, digits, ``_``, ``.`` and ``-``.

    Raises:
        StoreError: it has others, and no version of the program gave it.
    """
    if not isinstance(run, str) or not is_plain_name(run):
        raise StoreError(
            f"a run of this store is named {run!r:.80}: the store was altered by something else",
            "put a backup of the store in its place, or name another with --store",
        )
    return run


def encode(row: Run | Unit | Step) -> dict[str, Any]:
    """Encode a record as a row of its table."""
    return encode_values({field.name: getattr(row, field.name) for field in fields(row)})


def encode_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Encode columns of a row: JSON where the schema has it, storable text."""

    def encoded(key: str, value: Any) -> Any:
        if key in _JSON_COLUMNS and value is not None:
            return json.dumps(value)
        return storable_text(value) if isinstance(value, str) else value

    return {key: encoded(key, value) for key, value in values.items()}


def decode(kind: type[Row], row: dict[str, Any]) -> Row:
    """Decode a row of a table as a record; columns that an earlier schema lacks are empty.

    Raises:
        DamagedError: the row holds what cannot have been written.
    """
    with damaged_row(f"{kind.__name__.lower()}s", row):
        values = {}
        for field in fields(kind):
            # A store that is only looked at may be of an earlier schema.
            value: Any = row.get(field.name)
            if field.name in _JSON_COLUMNS and value is not None:
                value = loads(value)
            values[field.name] = _ABSENT.get(field.name) if value is None else value
        decoded: Row = _adapters()[kind].validate_python(values)
        return decoded


def updated_run(run: Run) -> Run:
    """Return a run under current names of settings, and with the weights it had: a spec may name others today."""
    run = replace(run, settings=current_names(run.settings))
    target = run.fingerprints.get("target")
    if not isinstance(target, str):
        return run
    target = canonical_fingerprint(target)
    return replace(
        run, model=versioned_spec(run.model, target), fingerprints={**run.fingerprints, "target": target}
    )


def decode_trial(run: str, row: Sequence[Any]) -> Trial:
    """Decode a row of ``steps`` that has the columns of ``Trial``."""
    *columns, images = row
    with damaged_row("steps", {"run": run, **dict(zip(Trial._fields, columns, strict=False))}):
        trial: Trial = _adapters()[Trial].validate_python([*columns, loads(images or "[]")])
        return trial


def decode_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the detail of a row of ``events``."""
    with damaged_row("events", row):
        detail = loads(row["detail"])
        if not isinstance(detail, dict):
            raise ValueError("detail: there is no mapping")
        return detail


@cache
def _adapters() -> dict[type, TypeAdapter[Any]]:
    return {kind: TypeAdapter(kind) for kind in (Run, Unit, Step, Trial)}


@contextmanager
def damaged_row(table: str, row: Mapping[str, Any]) -> Iterator[None]:
    """Raise what is wrong with a row that is read as a ``DamagedError`` that names it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        names = ("id", "run", "unit", "step", "attempt")
        place = ", ".join(
            f"{name} {clean_text(str(row[name]), 80)}" for name in names if row.get(name) is not None
        )
        what = reason_of(error)
        if isinstance(error, ValidationError):
            what = invalid_field(error)
        raise DamagedError(
            f"a row of {table} in runs.db is damaged ({place}): {clean_text(what, 200)}",
            "put a backup of the file in its place, or name another folder with --store",
        ) from error
