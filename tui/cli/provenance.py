"""What ``line show --provenance`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from line_neurons.agent.settings import Settings
from line_neurons.graphs.replay.provenance import provenance
from line_neurons.graphs.replay.provenance_text import (
    NOT_RECORDED,
    format_moment,
    format_versions,
    machine_rows,
    mapping_of,
)
from line_neurons.tools.store.runs import open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import plain

_HASH = 12


def show_provenance(store: Path, name: str, *, as_json: bool) -> None:
    """Print the provenance of a run's labels: in groups with short hashes, or all of it as JSON.

    Raises:
        LineError: there is no such run, or the store cannot be read.
    """
    with closing(open_store(store)) as opened:
        told = provenance(opened, name)
    if as_json:
        terminal.dump(told)
        return
    finished = f", finished {format_moment(told['finished'])}" if told["finished"] else ""
    terminal.line(f"{told['run']}: {told['model']} {told['layer']}", style="bold")
    terminal.line(f"{told['status']}, started {format_moment(told['created'])}{finished}")
    _pair("command", told["command"] or NOT_RECORDED)
    if origin := told["forked_from"]:
        _pair("forked from", f"unit {origin['unit']} of {origin['run']} after step {origin['step']}")
    _parts(told)
    _work(told)
    _asked(told)
    _units(told)
    terminal.line(f"In full, with each step's prompt and images: line show {told['run']} --provenance --json")


def _parts(told: Mapping[str, Any]) -> None:
    _head("Components")
    for name, part in told["parts"].items():
        _pair(name.replace("_", " "), part["fingerprint"])
        for what, value in (part["made_of"] or {}).items():
            _pair("", f"{what.replace('_', ' ')} {value}")


def _work(told: Mapping[str, Any]) -> None:
    for number, one in enumerate(told["environments"], 1):
        _head(f"Environment {number}" if len(told["environments"]) > 1 else "Environment")
        _pair("packages", format_versions(one["versions"]))
        _pair("line-neurons' source", one["code"] or NOT_RECORDED)
        for what, value in machine_rows(one["machine"]):
            _pair(what, value)
        for note in one["images"] or ():
            _pair("images", str(note))
    _head("Sessions")
    if not told["sessions"]:
        terminal.line("not yet", lead="  ")
        return
    terminal.table(
        ["started", "ended", "how", "process", "host", "steps", "environment"],
        [
            [
                format_moment(one["began"]),
                format_moment(one["ended"]),
                one["how"] + (f": {one['error']}" if one["error"] else ""),
                str(one["process"]),
                one["host"] or NOT_RECORDED,
                one["steps"],
                NOT_RECORDED if one["environment"] is None else str(one["environment"] + 1),
            ]
            for one in told["sessions"]
        ],
    )
    for one in (*told["changes"], *told["incidents"]):
        unit = "" if one["unit"] is None else f" of unit {one['unit']}"
        said = ", ".join(
            f"{what.replace('_', ' ')} {value}"
            for what, value in one.items()
            if what not in {"kind", "unit", "at"}
        )
        _pair(format_moment(one["at"]), f"{one['kind']}{unit}: {said}".removesuffix(": "))


def _asked(told: Mapping[str, Any]) -> None:
    _head("Seeds")
    _pair("run seed", str(told["seeds"]["run"]))
    for what, rule in told["seeds"]["rules"].items():
        _pair(what, rule)
    _head("Prompts (SHA-256)")
    for kind, text in (told["prompts"] or {}).items():
        _pair(kind, str(mapping_of(text).get("sha256")))
    if told["prompts"] is None:
        terminal.line(f"{NOT_RECORDED}, except the hash of each request", lead="  ")
    _head("Settings that differ from the defaults")
    defaults = Settings.model_construct().model_dump(mode="json")
    for name, value in told["settings"].items():
        if defaults.get(name) != value:
            _pair(name, str(value))


def _units(told: Mapping[str, Any]) -> None:
    _head("Units")
    terminal.table(
        ["unit", "name", "label", "score", "origin", "steps", "requests", "steering commands", "history"],
        [
            [
                str(one["unit"]),
                one["name"],
                one["label"] or one["status"],
                one["score"],
                one["origin"],
                len({step["step"] for step in one["steps"]}),
                sum(step["model"] is not None for step in one["steps"]),
                len(one["wishes"]),
                one["history_sha256"][:_HASH],
            ]
            for one in told["units"]
        ],
    )


def _head(text: str) -> None:
    terminal.line("")
    terminal.line(text, style="bold")


def _pair(name: str, value: str) -> None:
    terminal.line(value, lead=f"  {plain(name):28}")
