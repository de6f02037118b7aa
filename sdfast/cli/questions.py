"""What `sdfast bench` can be asked, each of its flags written down once."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.spreading import keyword, spread
from sdfast.errors import UsageError

CALLS = "5,8,10,12,15,20,25,50"
PROBLEMS = "uncond,cfg7.5"


@dataclass(frozen=True, slots=True)
class Question:
    """What is said of timings and of errors alike."""

    rows: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PRESET...",
            show_default=False,
            help="Presets or their files; with --accuracy also rows such as 'dpm++2M:*'.",
        ),
    ] = None
    vs: Annotated[
        list[str] | None,
        typer.Option(
            "--vs",
            metavar="diffusers[:bf16,channels_last,fused,compile]",
            help="Measure it in turns with ours; repeat it for several set-ups.",
        ),
    ] = None
    guidance: flags.Guidance = None
    model: flags.ModelName = None
    device: flags.Device = "auto"
    dtype: flags.Dtype = "auto"
    export_json: Annotated[
        str | None, typer.Option("--export-json", metavar="FILE", help="Everything measured.")
    ] = None
    export_markdown: Annotated[
        str | None, typer.Option("--export-markdown", metavar="FILE", help="All rows' tables.")
    ] = None
    export_csv: Annotated[
        str | None, typer.Option("--export-csv", metavar="FILE", help="A line a measurement.")
    ] = None
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="A picture of it; needs matplotlib."),
    ] = None
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Draw no progress.")] = False

    @property
    def exports(self) -> dict[str, str | None]:
        """Where each kind of file is to go."""
        return {
            "json": self.export_json,
            "markdown": self.export_markdown,
            "csv": self.export_csv,
            "plot": self.plot,
        }


@dataclass(frozen=True, slots=True)
class OfTimings(Question):
    """What timings alone are asked besides."""

    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=A,B",
            help="A row for every value of a job's key, or of dtype; repeat it to cross them.",
        ),
    ] = None
    runs: Annotated[
        Any,
        typer.Option("-r", "--runs", parser=flags.number, metavar="N", help="Pictures a row. [5]"),
    ] = None
    warmup: Annotated[
        Any,
        typer.Option(
            "-w", "--warmup", parser=flags.number, metavar="N", help="Uncounted before them. [1]"
        ),
    ] = None
    batch: Annotated[
        str | None,
        typer.Option("--batch-size", metavar="N,N,...", help="Pictures painted at once. [1]"),
    ] = None
    cold: Annotated[
        bool, typer.Option("--cold", help="Time `sdfast gen` and a diffusers script as processes.")
    ] = False
    no_start: Annotated[
        bool,
        typer.Option("--no-start", help="Leave out what takes a process: load, first, memory."),
    ] = False
    steps: flags.Steps = None
    seed: Annotated[
        Any, typer.Option("--seed", parser=flags.number, metavar="N", help="Of the noise. [1]")
    ] = None
    size: flags.Size = None
    compiled: flags.Compile = False

    @property
    def given(self) -> dict[str, Any]:
        """Keys of a job that a flag names one value of; None is one that none does."""
        return {key: getattr(self, key) for key in ("steps", "guidance", "seed", "size", "model")}


@dataclass(frozen=True, slots=True)
class OfErrors(Question):
    """What errors alone are asked besides."""

    calls: Annotated[
        str | None,
        typer.Option("--calls", metavar="N,N,...", help=f"Accuracy: calls a sample. [{CALLS}]"),
    ] = None
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem",
            metavar="NAME,...",
            help="Accuracy: uncond, cfg7.5, cfg3:1 (guidance 3, prompt 1). "
            f"[{PROBLEMS}; none with a model]",
        ),
    ] = None
    count: Annotated[
        Any,
        typer.Option(
            "-n",
            "--count",
            parser=flags.number,
            metavar="N",
            help="Accuracy: noises a problem [96], or seeds a prompt [1].",
        ),
    ] = None
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Accuracy: prompts for a model, one a line."
        ),
    ] = None


_Accuracy = Annotated[
    bool, typer.Option("--accuracy", help="Measure errors against the converged picture.")
]


def with_question(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of both kinds in the place of a command's parameter `question`."""
    every = {field.name: field for kind in (OfTimings, OfErrors) for field in fields(kind)}
    parameters = [keyword(name, field.type, field.default) for name, field in every.items()]
    return spread(
        command, "question", [*parameters, keyword("accuracy", _Accuracy, False)], _question
    )


def _question(said: Mapping[str, Any]) -> OfTimings | OfErrors:
    """What was asked. Raises UsageError for a flag of the other kind."""
    kind, other = (OfErrors, OfTimings) if said["accuracy"] else (OfTimings, OfErrors)
    ours = [field.name for field in fields(kind)]
    for field in fields(other):
        if field.name not in ours and said[field.name] != field.default:
            which = "without" if said["accuracy"] else "with"
            raise UsageError(f"{_flag(field)} goes {which} --accuracy")
    return kind(**{name: said[name] for name in ours})


def _flag(field: Field[Any]) -> str:
    """What is typed for it; of an annotation typer keeps the first name as the default."""
    kind: Any = field.type
    option = kind.__metadata__[0]
    return max((option.default, *option.param_decls), key=len)
