"""Printing of a run's provenance, for ``line show --provenance``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from line_neurons.agent.settings import Settings
from line_neurons.graphs.replay.provenance import provenance
from line_neurons.tools.store.runs import open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import (
    NOT_RECORDED,
    format_moment,
    format_versions,
    machine_rows,
    mapping_of,
    plain,
    setting_text,
    setting_texts,
)

_HASH = 12


def show_provenance(store: Path, name: str, *, as_json: bool) -> None:
    """Print the provenance of a run's labels: in groups with short hashes, or all of it as JSON.

    Raises:
        LineError: there is no such run, or the store cannot be read.
    """
    with closing(open_store(store)) as opened:
        record = provenance(opened, name)
    if as_json:
        terminal.dump(record)
        return
    finished = f", finished {format_moment(record['finished'])}" if record["finished"] else ""
    terminal.line(f"{record['run']}: {record['model']} {record['layer']}", style="bold")
    terminal.line(f"{record['status']}, started {format_moment(record['created'])}{finished}")
    _pair("command", record["command"] or NOT_RECORDED)
    if origin := record["forked_from"]:
        _pair("forked from", f"unit {origin['unit']} of {origin['run']} after step {origin['step']}")
    _parts(record)
    _work(record)
    _prompts(record)
    _units(record)
    terminal.line(f"In full, with each step's prompt and images: line show {record['run']} --provenance --json")


def _parts(record: Mapping[str, Any]) -> None:
    _head("Components")
    for name, part in record["parts"].items():
        _pair(name.replace("_", " "), part["fingerprint"])
        for what, value in (part["made_of"] or {}).items():
            _pair("", f"{what.replace('_', ' ')} {value}")


def _work(record: Mapping[str, Any]) -> None:
    for number, environment in enumerate(record["environments"], 1):
        _head(f"Environment {number}" if len(record["environments"]) > 1 else "Environment")
        _pair("packages", format_versions(environment["versions"]))
        _pair("line-neurons' source", environment["code"] or NOT_RECORDED)
        for what, value in machine_rows(environment["machine"]):
            _pair(what, value)
        for note in environment["images"] or ():
            _pair("images", str(note))
    _head("Sessions")
    if not record["sessions"]:
        terminal.line("not yet", lead="  ")
        return
    terminal.table(
        ["started", "ended", "how", "process", "host", "steps", "environment"],
        [
            [
                format_moment(session["began"]),
                format_moment(session["ended"]),
                session["how"] + (f": {session['error']}" if session["error"] else ""),
                str(session["process"]),
                session["host"] or NOT_RECORDED,
                session["steps"],
                NOT_RECORDED if session["environment"] is None else str(session["environment"] + 1),
            ]
            for session in record["sessions"]
        ],
        drop=("environment", "process", "steps"),
    )
    for event in (*record["changes"], *record["incidents"]):
        unit = "" if event["unit"] is None else f" of unit {event['unit']}"
        details = ", ".join(
            f"{what.replace('_', ' ')} {setting_text(value)}"
            for what, value in event.items()
            if what not in {"kind", "unit", "at"}
        )
        _pair(format_moment(event["at"]), f"{event['kind']}{unit}: {details}".removesuffix(": "))


def _prompts(record: Mapping[str, Any]) -> None:
    _head("Seeds")
    _pair("run seed", str(record["seeds"]["run"]))
    for what, rule in record["seeds"]["rules"].items():
        _pair(what, rule)
    _head("Prompts (SHA-256)")
    for kind, text in (record["prompts"] or {}).items():
        _pair(kind, str(mapping_of(text).get("sha256")))
    if record["prompts"] is None:
        terminal.line(f"{NOT_RECORDED}, except the hash of each request", lead="  ")
    _head("Settings that differ from the defaults")
    defaults = setting_texts(Settings.model_construct().model_dump(mode="json"))
    for name, text in setting_texts(record["settings"]).items():
        if defaults.get(name) != text:
            _pair(name, text)


def _units(record: Mapping[str, Any]) -> None:
    _head("Units")
    terminal.table(
        ["unit", "name", "label", "score", "origin", "steps", "requests", "steering commands", "history"],
        [
            [
                str(unit["unit"]),
                unit["name"],
                unit["label"] or unit["status"],
                unit["score"],
                unit["origin"],
                len({step["step"] for step in unit["steps"]}),
                sum(step["model"] is not None for step in unit["steps"]),
                len(unit["wishes"]),
                unit["history_sha256"][:_HASH],
            ]
            for unit in record["units"]
        ],
        drop=("steering commands", "requests", "steps", "origin"),
    )


def _head(text: str) -> None:
    terminal.line("")
    terminal.line(text, style="bold")


def _pair(name: str, value: str) -> None:
    terminal.line(value, lead=f"  {plain(name):28}")
