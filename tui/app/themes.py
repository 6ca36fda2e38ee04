"""Themes of the terminal app, and the saved choice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from textual.theme import Theme

DARK = Theme(
    name="line-dark",
    primary="#7aa2f7",
    secondary="#7dcfff",
    accent="#e0af68",
    success="#73c991",
    warning="#e0af68",
    error="#f7768e",
    foreground="#d5daea",
    background="#12141c",
    surface="#181b26",
    panel="#232838",
    dark=True,
    variables={
        "block-cursor-background": "#2f3b5c",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#232838",
        "footer-key-foreground": "#e0af68",
        "footer-background": "#181b26",
        "border": "#3b4366",
    },
)
LIGHT = Theme(
    name="line-light",
    primary="#2b59c3",
    secondary="#0f7b9c",
    accent="#9a5b00",
    success="#1d7a3e",
    warning="#9a5b00",
    error="#b3243b",
    foreground="#1c2030",
    background="#fbfbf8",
    surface="#f2f2ec",
    panel="#e4e5df",
    dark=False,
    variables={
        # Grey, and no shade of white, on a terminal of 16 colours.
        "block-cursor-background": "#b8ccf5",
        "block-cursor-foreground": "#10131f",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#d3d6d0",
        "footer-key-foreground": "#9a5b00",
        "footer-background": "#e9eae4",
        "border": "#b6bac8",
    },
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}


def saved_theme() -> str:
    """Return the name of the saved theme; the dark one if there is none."""
    try:
        return _file().read_text("utf-8").strip()[:80] or DARK.name
    except (OSError, UnicodeDecodeError):
        return DARK.name


def save_theme(name: str) -> None:
    """Save the theme for the next start, if the folder can be written."""
    with suppress(OSError):
        file = _file()
        if not file.is_file() or saved_theme() != name:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name}\n", "utf-8")


def _file() -> Path:
    import platformdirs

    return platformdirs.user_config_path("line-neurons") / "theme"
