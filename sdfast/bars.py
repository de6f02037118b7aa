"""What is drawn on stderr while something is waited for, and gone afterwards."""

from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn, TimeRemainingColumn


def on_stderr(*, colour: bool = True) -> Console:
    """Where bars and notes go."""
    return Console(stderr=True, no_color=None if colour else True)


def text(field: str = "description") -> TextColumn:
    """A column of what a task says, to the letter."""
    return TextColumn(f"{{task.{field}}}", markup=False)


def left() -> TimeRemainingColumn:
    """A column of the time that is left."""
    return TimeRemainingColumn(compact=True)


def bar(*columns: ProgressColumn, console: Console | None = None, **how: Any) -> Progress:
    """A bar of these columns behind what is done; what others print goes where it would go."""
    apart: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    return Progress(text(), *columns, console=console or on_stderr(), **(apart | how))
