"""How a command paints: the flags of the machine, of the network and of what is said meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sdfast.cli import flags
from sdfast.cli.complaint import say
from sdfast.cli.spreading import keyword, spread

if TYPE_CHECKING:
    from sdfast.config import Config
    from sdfast.models.source import Source


@dataclass(frozen=True, slots=True)
class How:
    """The flags of every command that paints, wherever the painting is done."""

    no_safety: flags.NoSafety = False
    offline: flags.Offline = False
    device: flags.Device = "auto"
    dtype: flags.Dtype = "auto"
    vram: flags.Vram = "auto"
    quiet: flags.Quiet = False
    no_color: flags.NoColor = False
    debug: flags.Debug = False
    dry_run: flags.DryRun = False

    def __post_init__(self) -> None:
        from sdfast.machine import check_precision, read_device, read_vram

        read_device(self.device)
        check_precision(self.dtype)
        read_vram(self.vram)

    @property
    def draw(self) -> bool:
        """Whether a terminal gets a progress bar."""
        return not self.quiet

    @property
    def colour(self) -> bool:
        return not self.no_color

    def note(self, text: str) -> None:
        """Say on stderr what is worth knowing of the jobs, in a dry run, too; nothing if quiet."""
        if not self.quiet:
            say(text)

    def say(self, text: str) -> None:
        """The same of their painting, so not in a dry run."""
        if not self.dry_run:
            self.note(text)

    def find(self, name: str | None, config: "Config") -> "Source | None":
        """The model asked for, as `find_model` has it; a dry run downloads none."""
        from sdfast.cli.model import find_model

        return find_model(
            name,
            config,
            self.say,
            offline=self.offline,
            fetch=not self.dry_run,
            safety=not self.no_safety,
            draw=self.draw,
            colour=self.colour,
        )


@dataclass(frozen=True, slots=True)
class HowHere(How):
    """And those of commands that paint in this process, or by a worker in its place."""

    compiled: flags.Compile = False
    verbose: flags.Verbose = False

    def explain(self, text: str) -> None:
        """Say what only those want to know who ask why."""
        if self.verbose:
            self.say(text)


def with_how(kind: type[How]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flags of a kind in the place of a command's parameter `how`."""
    parameters = [keyword(field.name, field.type, field.default) for field in fields(kind)]

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        return spread(command, "how", parameters, lambda said: kind(**said))

    return decorated
