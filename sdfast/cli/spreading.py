"""One parameter of a command that is several flags on the command line."""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any


def keyword(name: str, kind: Any, default: Any = None) -> Parameter:
    """A flag, as typer reads it from a signature."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def spread(
    command: Callable[..., Any],
    place: str,
    parameters: Sequence[Parameter],
    gathered: Callable[[Mapping[str, Any]], object],
) -> Callable[..., Any]:
    """The command with other parameters in the place of one, which it gets gathered of them."""
    own = signature(command, eval_str=True)

    def gathering(**said: Any) -> Any:
        parts = {parameter.name: said.pop(parameter.name) for parameter in parameters}
        return command(**{place: gathered(parts)}, **said)

    spelled = [
        each
        for parameter in own.parameters.values()
        for each in (parameters if parameter.name == place else [parameter])
    ]
    vars(gathering)["__signature__"] = own.replace(parameters=spelled)
    return gathering
