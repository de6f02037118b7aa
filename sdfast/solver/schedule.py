"""The noise schedule a network was trained on, read at any time.

A training image x0 becomes x_t = alpha(t) x0 + sigma(t) noise. DPM-Solver measures progress by
lam = log(alpha / sigma), half the log signal-to-noise ratio (arXiv 2206.00927, section 2), so this
module answers two questions: how much signal and noise there is at a time, and at which time a
given lam is reached. Everything here is float64 on the CPU: the numbers are few, and the solver
divides by their differences.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfast.wording import quoted

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Node:
    """One point on the way from noise to image."""

    t: float
    """What the network is told, on the schedule's own clock; fractions are allowed."""
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """Half the log signal-to-noise ratio; infinite where no noise is left."""
        return math.log(self.alpha / self.sigma) if self.sigma else math.inf

    @property
    def noise_ratio(self) -> float:
        """sigma / alpha, the sigma of Karras et al. (arXiv 2206.00364)."""
        return self.sigma / self.alpha


CLEAN = Node(t=0.0, alpha=1.0, sigma=0.0)
"""The end of the way: no noise left."""


def _node(t: float, log_alpha: float) -> Node:
    return Node(t=t, alpha=math.exp(log_alpha), sigma=math.sqrt(-math.expm1(2 * log_alpha)))


@dataclass(frozen=True)
class NoiseSchedule:
    """How much signal and noise there is at each time.

    Discrete-time schedules run on the clock of training steps, 0 to N - 1, joined by straight
    lines in log alpha; continuous-time ones on the clock of the paper, up to 1.
    """

    first: float
    """The noisiest time, where a walk begins."""
    last: float
    """The cleanest time the network was trained on."""
    log_alpha: Callable[[float], float]
    time_of: Callable[[float], float]
    """The time of a log alpha; the inverse of `log_alpha`."""
    steps: int | None = None
    """How many training steps the clock counts; none in continuous time."""

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "NoiseSchedule":
        """Any discrete-time schedule, from its betas in the order of training steps.

        Raises ValueError unless they are two or more, between 0 and 1, and leave some signal.
        """
        return _discrete(_log_alphas(np.asarray(betas, np.float64)))

    @classmethod
    def scaled_linear(
        cls, start: float = 0.00085, end: float = 0.012, steps: int = 1000
    ) -> "NoiseSchedule":
        """The schedule of Stable Diffusion: square roots of beta on a straight line."""
        return cls.from_betas(np.linspace(start**0.5, end**0.5, steps, dtype=np.float64) ** 2)

    @classmethod
    def linear(cls, start: float = 0.0001, end: float = 0.02, steps: int = 1000) -> "NoiseSchedule":
        """The discrete-time schedule of DDPM (arXiv 2006.11239): beta on a straight line."""
        return cls.from_betas(np.linspace(start, end, steps))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """The schedule that a diffusers `scheduler_config.json` describes.

        Knows `trained_betas` and the `beta_schedule`s linear, scaled_linear and
        squaredcos_cap_v2, and `rescale_betas_zero_snr`. Raises ValueError for others, and for
        schedulers that walk by something else than betas.
        """
        for key, none in _ELSE.items():
            if config.get(key, none) not in (none, None):
                raise ValueError(f"a scheduler with `{key}` is not known")
        kind = str(config.get("_class_name", ""))
        if kind.startswith(_NO_BETAS) and not has_betas(config):
            raise ValueError(f"{kind} has no betas")
        log_alpha = _log_alphas(_betas(config))
        if config.get("rescale_betas_zero_snr"):
            log_alpha = _zero_terminal_snr(log_alpha)
        return _discrete(log_alpha)

    @classmethod
    def continuous_linear(cls, start: float = 0.1, end: float = 20.0) -> "NoiseSchedule":
        """The VP SDE of Song et al. (arXiv 2011.13456): t in [0.001, 1], beta from start to end."""

        return cls(1.0, 1e-3, _LinearLogAlpha(start, end), _LinearTime(start, end))

    @classmethod
    def continuous_cosine(cls, offset: float = 0.008) -> "NoiseSchedule":
        """The cosine schedule of Nichol and Dhariwal (arXiv 2102.09672): t in [0.001, 0.9946].

        The end is DPM-Solver's, appendix D.4: beyond it there is too little signal to divide by.
        """
        return cls(0.9946, 1e-3, _CosineLogAlpha(offset), _CosineTime(offset))

    def at(self, t: float) -> Node:
        """Signal and noise at a time; discrete schedules go on as they end."""
        return _node(t, self.log_alpha(t))

    def at_lam(self, lam: float) -> Node:
        """The node where half the log signal-to-noise ratio is `lam`."""
        log_alpha = -0.5 * float(np.logaddexp(0.0, -2.0 * lam))
        return _node(self.time_of(log_alpha), log_alpha)

    @property
    def start(self) -> Node:
        """The noisiest node."""
        return self.at(self.first)

    @property
    def end(self) -> Node:
        """The cleanest node the network was trained on: `sigma_min`."""
        return self.at(self.last)


class _Lines:
    """Straight lines through points, in float64; equal where the points are."""

    def __init__(self, x: Array, y: Array, sign: float = 1.0) -> None:
        """x must rise, and is looked up at sign times what is asked for."""
        self._x, self._y, self._sign = x, y, sign
        self._key = x.tobytes(), y.tobytes(), sign

    def __call__(self, value: float) -> float:
        return float(np.interp(self._sign * value, self._x, self._y))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Lines) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<lines through {len(self._x)} points>"


@dataclass(frozen=True)
class _LinearLogAlpha:
    """Of a beta on a straight line in continuous time."""

    start: float
    end: float

    def __call__(self, t: float) -> float:
        return -0.25 * t**2 * (self.end - self.start) - 0.5 * t * self.start


@dataclass(frozen=True)
class _LinearTime:
    """The root of that quadratic, in the form that does not cancel."""

    start: float
    end: float

    def __call__(self, log_alpha: float) -> float:
        root = math.sqrt(self.start**2 - 4 * (self.end - self.start) * log_alpha)
        return -4 * log_alpha / (root + self.start)


@dataclass(frozen=True)
class _CosineLogAlpha:
    """Of an alpha on a cosine in continuous time."""

    offset: float

    def __call__(self, t: float) -> float:
        return _log_cosine(t, self.offset) - _log_cosine(0.0, self.offset)


@dataclass(frozen=True)
class _CosineTime:
    """The inverse of that."""

    offset: float

    def __call__(self, log_alpha: float) -> float:
        angle = math.acos(math.exp(log_alpha + _log_cosine(0.0, self.offset)))
        return angle * 2 * (1 + self.offset) / math.pi - self.offset


def _log_cosine(t: float, offset: float) -> float:
    return math.log(math.cos((t + offset) / (1 + offset) * math.pi / 2))


def has_betas(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler's config says what its betas are, as diffusers writes them."""
    return any(config.get(key) is not None for key in ("beta_schedule", "trained_betas"))


_NO_BETAS = ("FlowMatch", "EDM", "IPNDM", "DDPMWuerstchen", "CMStochastic", "ScoreSde", "KarrasVe")
"""How diffusers' schedulers are called that walk by something else."""

_ELSE = {"use_flow_sigmas": False, "snr_shift_scale": 1.0}
"""Keys by which a scheduler has another schedule than its betas say, and where it has not."""

_LEAST_LOG_ALPHA = -80.0
"""Below it single precision cannot divide by a signal's share."""


def _log_alphas(betas: Array) -> Array:
    if betas.ndim != 1 or len(betas) < 2:
        raise ValueError("there must be two betas at least, in a row")
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError("betas must lie between 0 and 1")
    log_alpha = 0.5 * np.log1p(-betas).cumsum()
    if not (np.diff(log_alpha, prepend=0.0) < 0).all() or math.exp(2 * log_alpha[0]) == 1:
        raise ValueError("each of the betas must be enough to add some noise")
    return log_alpha


def _discrete(log_alpha: Array) -> NoiseSchedule:
    if log_alpha[-1] < _LEAST_LOG_ALPHA:
        raise ValueError("betas must leave some signal at the end")
    clock = np.arange(len(log_alpha), dtype=np.float64)
    return NoiseSchedule(
        first=float(clock[-1]),
        last=0.0,
        log_alpha=_Lines(clock, log_alpha),
        time_of=_Lines(-log_alpha, clock, -1.0),
        steps=len(log_alpha),
    )


def _betas(config: Mapping[str, Any]) -> Array:
    if config.get("trained_betas") is not None:
        try:
            return np.asarray(config["trained_betas"], np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError("trained_betas must be a list of numbers") from error
    steps = config.get("num_train_timesteps", 1000)
    if not (isinstance(steps, int) and 2 <= steps <= 1_000_000):
        raise ValueError(f"num_train_timesteps must be from 2 to 1000000, not {quoted(steps)}")
    try:
        start = float(config.get("beta_start", 0.0001))
        end = float(config.get("beta_end", 0.02))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("betas must be numbers between 0 and 1") from error
    if not (0 < start < 1 and 0 < end < 1):
        raise ValueError(f"betas must lie between 0 and 1, not from `{start}` to `{end}`")
    match config.get("beta_schedule", "linear"):
        case "linear":
            return np.linspace(start, end, steps, dtype=np.float64)
        case "scaled_linear":
            return np.linspace(start**0.5, end**0.5, steps, dtype=np.float64) ** 2
        case "squaredcos_cap_v2":
            t = np.arange(steps + 1) / steps
            bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
            return np.minimum(1 - bar[1:] / bar[:-1], 0.999)
        case other:
            raise ValueError(f"beta_schedule {quoted(other)} is not known")


def _zero_terminal_snr(log_alpha: Array) -> Array:
    """Algorithm 1 of arXiv 2305.08891, with 2^-24 of the signal's power left to divide by."""
    alpha = np.exp(log_alpha)
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return np.log(np.maximum(alpha, 2.0**-12))
