"""Tables and figures of an audit (the paper's Table 11, figures 4 and 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from line_neurons.eval.audit.answers import Answers, Judgement, agreement
from line_neurons.eval.audit.verdicts import LEAST, VERDICTS, Verdict, verdict_of
from line_neurons.eval.reports.statistics import ALPHA, holm_correction
from line_neurons.eval.reports.table import Report, Row, Table, as_float, number
from line_neurons.tools.store.results.audits import Audit, AuditedFeature

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEASURED = (
    "", "low", "high", "z", "p", "Holm p", "probability", "drop", "control drop", "images", "verified", "reason",
)  # fmt: skip
_NUMBERS = (
    "rank", "importance", "share", "score", "auc", "relation", "inside", "region",
    *(f"lean {name}".strip() for name in _MEASURED),
    *(f"insert {name}".strip() for name in _MEASURED),
)  # fmt: skip
_COLUMNS = (
    "class", "index", "images", "basis", "feature", "label", *_NUMBERS, "verdict", "people", "elsewhere",
    "answers",
)  # fmt: skip
_ON_SCREEN = frozenset({
    "class", "feature", "label", "importance", "relation", "lean", "lean Holm p", "verdict", "people",
})  # fmt: skip
_WHOLE = frozenset({"rank", "images", "lean images", "lean verified", "insert images", "insert verified"})
_TEXTS = frozenset({"basis", "relation", "region", "class", "lean reason", "insert reason"})
NOTE = (
    "Importance: mean of activation times weight over the control images that are predicted as the class (basis: "
    "class if there are none). Relation: of label and class by WordNet. Lean: what the label's thing adds to the "
    "class's logit, the control edit less the edit without it, over verified images; insert: the same where it is "
    "put into images of other classes. Inside: share of the feature's map on the class's thing. Verdict: core if "
    "the label is of the thing (its name, a kind, a part) and the edits do not speak against it; spurious if it "
    f"is of something else and lean is at least {LEAST} standard deviations of the logit, with p < {ALPHA} after "
    "Holm's correction; else unclear."
)
_MARKS: Mapping[str, str] = {"core": "yes", "spurious": "no", "unclear": "unclear"}


def audit_report(
    audit: Audit,
    rows: Sequence[AuditedFeature],
    answers: Answers | None = None,
    words: Mapping[str, Mapping[tuple[int, int], str]] | None = None,
    figures: Mapping[str, Callable[[], Figure]] | None = None,
    remarks: Sequence[str] = (),
) -> Report:
    """Return the tables of an audit.

    Args:
        rows: the features, by class and rank.
        answers: people's, by class and feature.
        words: other methods' labels, by method, then class and feature.
        figures: functions that draw the figures, by name.
        remarks: what was left out.
    """
    corrected = {
        prefix: holm_correction([as_float(row.numbers.get(f"{prefix} p")) for row in rows])
        for prefix in ("lean", "insert")
    }
    numbers: list[dict[str, Any]] = [
        {**row.numbers, **{f"{prefix} Holm p": values[at] for prefix, values in corrected.items()}}
        for at, row in enumerate(rows)
    ]
    verdicts = [
        verdict_of(known.get("relation") or "", as_float(known.get("lean z")), known["lean Holm p"])
        for known in numbers
    ]
    judged = [_judgement(answers, row) for row in rows]
    features = Table(
        "audit", "What each class leans on", _COLUMNS,
        tuple(
            (
                known.get("class"), row.index, known.get("images"), known.get("basis"), row.feature,
                row.label or None, *(_cell(name, known.get(name)) for name in _NUMBERS), verdict,
                *_of_people(answers, row),
            )
            for row, known, verdict in zip(rows, numbers, verdicts, strict=True)
        ),
        NOTE, tuple(name for name in _COLUMNS if name not in _ON_SCREEN),
    )  # fmt: skip
    return Report(
        "audit",
        f"Audit of {audit.model}",
        (features, _classes(rows, numbers, verdicts, judged), table11(rows, verdicts, judged, words or {})),
        dict(figures or {}),
        (*_notes(audit, rows, verdicts, judged, answers), *remarks),
    )


def table11(
    rows: Sequence[AuditedFeature],
    verdicts: Sequence[Verdict],
    judged: Sequence[Judgement | None],
    words: Mapping[str, Mapping[tuple[int, int], str]],
) -> Table:
    """Return the paper's Table 11: features by class, with the labels of each method.

    Whether a feature is free of bias is what people say; where they were not asked, the audit's verdict.
    """
    methods = list(words)
    return Table(
        "table11",
        "Features of each class (Table 11)",
        ("class (index)", "no bias", "by", "feature", *methods, "LINE"),
        tuple(
            (
                f"{row.numbers.get('class')} ({row.index})", _MARKS[people or verdict],
                "people" if people else "audit", row.feature,
                *(words[method].get((row.index, row.feature)) for method in methods), row.label or None,
            )
            for row, verdict, people in zip(rows, verdicts, judged, strict=True)
        ),
        "No bias: most people saw the class's main object (by: people); where nobody was asked, the verdict.",
        ("class (index)", "no bias", "by", "feature", *methods, "LINE"),
    )  # fmt: skip


def _classes(
    rows: Sequence[AuditedFeature],
    numbers: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    judged: Sequence[Judgement | None],
) -> Table:
    found: list[Row] = []
    for index in dict.fromkeys(row.index for row in rows):
        own = [at for at, row in enumerate(rows) if row.index == index]
        first = numbers[own[0]]
        counts = Counter(verdicts[at] for at in own)
        people = Counter(judged[at] for at in own)
        shares = [
            sum(as_float(numbers[at].get("share")) for at in own if verdicts[at] == verdict)
            for verdict in VERDICTS
        ]
        found.append((
            first.get("class"), index, first.get("images"), first.get("basis"), len(own),
            *(counts[verdict] for verdict in VERDICTS), *shares, people["core"], people["spurious"],
        ))  # fmt: skip
    return Table(
        "audit-classes", "Verdicts by class",
        ("class", "index", "images", "basis", "features", *VERDICTS, *(f"{verdict} share" for verdict in VERDICTS),
         "people core", "people spurious"),
        tuple(found),
        "Shares: of the sum of all positive importances of the class.",
        ("index", "basis", "people core", "people spurious"),
    )  # fmt: skip


def _notes(
    audit: Audit,
    rows: Sequence[AuditedFeature],
    verdicts: Sequence[Verdict],
    judged: Sequence[Judgement | None],
    answers: Answers | None,
) -> list[str]:
    notes = []
    if audit.editor:
        edited = f"Edits by {audit.editor}, verified by {audit.verifier}."
        if not any(isfinite(as_float(row.numbers.get("lean p"))) for row in rows):
            edited += " No feature has six verified images, so none is tested."
        notes.append(edited)
    else:
        notes.append(
            "Nothing was edited: no lean, and nothing can be found spurious; name an editor with --editor."
        )
    reasons = Counter(str(row.numbers.get("lean reason")) for row in rows if row.numbers.get("lean reason"))
    notes += [
        f"Not tested, {count} of {len(rows)} features: {reason}." for reason, count in reasons.most_common(3)
    ]
    unlabelled = [str(row.feature) for row in rows if not row.label]
    if unlabelled:
        notes.append(f"Without a label: feature {', '.join(dict.fromkeys(unlabelled))}.")
    if answers is not None:
        both: list[tuple[Judgement, Judgement]] = [
            (verdict, people)
            for verdict, people in zip(verdicts, judged, strict=True)
            if verdict != "unclear" and people
        ]
        agreed = agreement(both)
        counted = sum(people is not None for people in judged)
        notes.append(
            f"People answered on {counted} of {len(rows)} features; on the {agreed.n} of these with a verdict the "
            f"audit agrees on {agreed.same}, kappa {number(agreed.kappa)}."
        )
    return notes


def _judgement(answers: Answers | None, row: AuditedFeature) -> Judgement | None:
    counts = (answers or {}).get((row.index, row.feature))
    return counts.judgement if counts and counts.total else None


def _of_people(answers: Answers | None, row: AuditedFeature) -> tuple[Any, ...]:
    counts = (answers or {}).get((row.index, row.feature))
    return (None, None, None) if counts is None else (counts.judgement, counts.elsewhere, counts.total)


def _cell(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return value or None
    return value if name in _WHOLE else as_float(value)
