"""What ``line show --provenance`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from line_neurons.agent.settings import Settings
from line_neurons.evidence.provenance import provenance
from line_neurons.tui import terminal
from line_neurons.tui.showing import open_store

_NOT_RECORDED = "not recorded"
_HASH = 12


def show(store: Path, name: str, *, as_json: bool) -> None:
    """Print where a run's labels come from: whole for machines; for people in groups, hashes by their beginning.

    Raises:
        LineError: there is no such run, or the store cannot be read.
    """
    with closing(open_store(store)) as opened:
        told = provenance(opened, name)
    if as_json:
        terminal.dump(told)
        return
    finished = f", finished {_time(told['finished'])}" if told["finished"] else ""
    terminal.line(f"{told['run']}: {told['model']} {told['layer']}", style="bold")
    terminal.line(f"{told['status']}, begun {_time(told['created'])}{finished}")
    _pair("command", told["command"] or _NOT_RECORDED)
    if origin := told["forked_from"]:
        _pair("forked from", f"unit {origin['unit']} of {origin['run']} after step {origin['step']}")
    _parts(told)
    _work(told)
    _asked(told)
    _units(told)
    terminal.line(
        f"All of it, with each step's question and pictures: line show {told['run']} --provenance --json"
    )


def _parts(told: Mapping[str, Any]) -> None:
    _head("Parts")
    for name, part in told["parts"].items():
        _pair(name.replace("_", " "), part["fingerprint"])
        for what, value in (part["made_of"] or {}).items():
            _pair("", f"{what.replace('_', ' ')} {value}")


def _work(told: Mapping[str, Any]) -> None:
    for number, one in enumerate(told["environments"], 1):
        _head(f"Environment {number}" if len(told["environments"]) > 1 else "Environment")
        _pair("packages", _versions(one["versions"]))
        _pair("line-neurons' source", one["code"] or _NOT_RECORDED)
        for what, value in _machine(one["machine"]):
            _pair(what, value)
    _head("Worked on")
    if not told["sessions"]:
        terminal.line("not yet", lead="  ")
        return
    terminal.table(
        ["began", "ended", "how", "process", "host", "steps", "environment"],
        [
            [
                _time(one["began"]),
                _time(one["ended"]),
                one["how"] + (f": {one['error']}" if one["error"] else ""),
                str(one["process"]),
                one["host"] or _NOT_RECORDED,
                one["steps"],
                _NOT_RECORDED if one["environment"] is None else str(one["environment"] + 1),
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
        _pair(_time(one["at"]), f"{one['kind']}{unit}: {said}".removesuffix(": "))


def _machine(machine: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if machine is None:
        return [("machine", _NOT_RECORDED)]
    rows = [
        ("system", f"{machine.get('os')}"),
        ("processor", f"{machine.get('cpu')}, {machine.get('cores')} cores, {_gigabytes(machine.get('memory'))}"),
    ]
    torch = _mapping(machine.get("torch"))
    gpus = torch.get("gpus")
    rows += [
        (
            "GPU",
            f"{gpu.get('name')}, {_gigabytes(gpu.get('memory'))}, driver {torch.get('driver')}, "
            f"CUDA {torch.get('cuda')}, cuDNN {torch.get('cudnn')}",
        )
        for gpu in map(_mapping, gpus if isinstance(gpus, list) else ())
    ]
    if torch:
        rows.append(("torch", f"{torch.get('threads')} threads, {torch.get('cpu_capability')}"))
    return rows


def _asked(told: Mapping[str, Any]) -> None:
    _head("Seeds")
    _pair("run seed", str(told["seeds"]["run"]))
    for what, rule in told["seeds"]["rules"].items():
        _pair(what, rule)
    _head("Prompts (SHA-256)")
    for kind, text in (told["prompts"] or {}).items():
        _pair(kind, str(_mapping(text).get("sha256")))
    if told["prompts"] is None:
        terminal.line(f"{_NOT_RECORDED}, but for the hash of each question that was asked", lead="  ")
    _head("Settings other than the defaults")
    usual = Settings.model_construct().model_dump(mode="json")
    for name, value in told["settings"].items():
        if usual.get(name) != value:
            _pair(name, str(value))


def _units(told: Mapping[str, Any]) -> None:
    _head("Units")
    terminal.table(
        ["unit", "name", "label", "score", "origin", "steps", "questions", "wishes", "history"],
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


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping of the store; another program may have written something else there."""
    return value if isinstance(value, dict) else {}


def _head(text: str) -> None:
    terminal.line("")
    terminal.line(text, style="bold")


def _pair(name: str, value: str) -> None:
    terminal.line(value, lead=f"  {terminal.plain(name):28}")


def _versions(versions: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {number}" for name, number in (versions or {}).items()) or _NOT_RECORDED


def _time(moment: str | None) -> str:
    """A time to the second; it is UTC, as in the document."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else _NOT_RECORDED


def _gigabytes(size: Any) -> str:
    return f"{size / 1e9:.0f} GB" if isinstance(size, int) else "memory not known"
