"""What is drawn on stderr while something is waited for, and gone afterwards."""

from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn, TimeRemainingColumn


def on_stderr(*, colour: bool = True) -> Console:
    """Where bars and notes go."""
    return Console(stderr=True, no_color=None if colour else True)


def text(field: str = "description") -> TextColumn:
    """A column with one field of a task, in which no markup is read."""
    return TextColumn(f"{{task.{field}}}", markup=False)


def left() -> TimeRemainingColumn:
    """A column of the time that is left."""
    return TimeRemainingColumn(compact=True)


def bar(*columns: ProgressColumn, console: Console | None = None, **how: Any) -> Progress:
    """A bar that goes when it ends: what is done, then these columns. Prints pass it by."""
    apart: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    return Progress(text(), *columns, console=console or on_stderr(), **(apart | how))
