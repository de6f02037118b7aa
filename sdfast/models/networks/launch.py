"""Where a kernel is launched."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")


def where_it_is(
    function: Callable[Concatenate[Tensor, _P], _R],
) -> Callable[Concatenate[Tensor, _P], _R]:
    """The function with its first tensor's GPU as the current one, which Triton launches on."""

    @wraps(function)
    def launch(x: Tensor, *more: _P.args, **how: _P.kwargs) -> _R:
        with torch.cuda.device_of(x):
            return function(x, *more, **how)

    return launch
