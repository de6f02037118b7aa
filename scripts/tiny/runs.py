"""What both trainings share: where a run lives, how it goes on, and how its rate falls.

A run is a folder with one checkpoint, a log of JSON lines and sample sheets. Started again, it goes
on from the checkpoint; asked for more steps than before, its rate rises again and it learns on.
Where no checkpoint is left, it can go on from the published model.
"""

import json
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel, CLIPTokenizer

from networks import text_encoder
from pictures import Painter
from scenes import Lesson, Scene, imagine
from sdfast.errors import one_line
from sdfast.models.device import cpu_has_bfloat16


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Lessons and the step at which each begins."""

    lessons: tuple[tuple[int, Lesson], ...]

    def at(self, step: int) -> Lesson:
        return [lesson for begins, lesson in self.lessons if begins <= step][-1]


def rate(step: int, steps: int, peak: float, begun: int = 0) -> float:
    """Warm up over 100 steps, stay, and fall to a twentieth over the last sixth."""
    left = (steps - step) / max(1, (steps - begun) / 6)
    return peak * min(1.0, (step - begun + 1) / 100, max(0.05, left))


@contextmanager
def brisk(device: torch.device) -> Iterator[None]:
    """bfloat16 products where the processor has them: up to three times as many pictures an hour.

    Attention is then spelled out, as the fused one's way back is slow in bfloat16 on a CPU.
    """
    if device.type != "cpu" or not cpu_has_bfloat16():
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


@dataclass(frozen=True, slots=True)
class Published:
    """A model that was exported before: its networks by name, and the steps behind them."""

    networks: dict[str, nn.Module]
    steps: dict[str, int]
    vocabulary: dict[str, int]
    """The row of each piece of a word."""

    @classmethod
    def read(cls, folder: Path) -> "Published":
        return cls(
            {
                "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
                "text": CLIPTextModel.from_pretrained(folder / "text_encoder"),
                "vae": AutoencoderKL.from_pretrained(folder / "vae"),
            },
            json.loads((folder / "sdfast.json").read_text())["steps"],
            CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab(),
        )

    def respelled(self, tokenizer: CLIPTokenizer) -> "Published":
        """The same, reading with another tokenizer; of the pieces that are new it knows nothing."""
        vocabulary = tokenizer.get_vocab()
        before = deepcopy(cast("CLIPTextModel", self.networks["text"])).float()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            after = text_encoder(len(vocabulary))
        rows = after.get_input_embeddings().weight.detach().clone()
        for piece in self.vocabulary.keys() & vocabulary.keys():
            rows[vocabulary[piece]] = before.get_input_embeddings().weight[self.vocabulary[piece]]
        before.set_input_embeddings(nn.Embedding.from_pretrained(rows))
        after.load_state_dict(before.state_dict())
        return Published(self.networks | {"text": after}, self.steps, vocabulary)


def of_other_networks(checkpoint: Path, error: Exception) -> SystemExit:
    """What ends a program that cannot go on from a checkpoint."""
    return SystemExit(
        f"error: {checkpoint} is of other networks than these: {one_line(error)}\n"
        "hint: move it away; with --published, train.py goes on from an exported model"
    )


@dataclass
class Run:
    """Networks in training: their average, their optimizer and their folder."""

    folder: Path
    networks: dict[str, nn.Module]
    peak: float
    published: Published | None = None
    """Where to begin when there is no checkpoint; None is from nothing."""
    inertia: float = 0.999
    begun: int = 0
    """The step at which the optimizer's memory begins."""
    step: int = 0
    seconds: float = 0.0
    average: dict[str, Tensor] = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.optimizer = torch.optim.AdamW(
            self._parameters(), lr=self.peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        if self.published and not self._checkpoint.exists():
            known = self.published.networks
            for name in self.networks.keys() & known.keys():
                self.networks[name].load_state_dict(known[name].float().state_dict())
            self.step = self.begun = max(self.published.steps.get(n, 0) for n in self.networks)
        self.average = {k: v.detach().clone() for k, v in self._named()}
        if self._checkpoint.exists():
            self._take_up(torch.load(self._checkpoint, weights_only=True, map_location="cpu"))

    def _take_up(self, found: dict[str, Any]) -> None:
        try:
            for name, network in self.networks.items():
                network.load_state_dict(found["networks"][name])
            self.optimizer.load_state_dict(found["optimizer"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise of_other_networks(self._checkpoint, error) from error
        self.step, self.seconds, self.begun = (found[k] for k in ("step", "seconds", "begun"))
        for k, v in self.average.items():
            v.copy_(found["average"][k])

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, network in self.networks.items():
            yield from ((f"{name}.{k}", p) for k, p in network.named_parameters())

    def _parameters(self) -> list[Tensor]:
        return [p for _, p in self._named()]

    def descend(self, loss: Tensor, steps: int) -> None:
        """One step down the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, steps, self.peak, self.begun)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        inertia = min(self.inertia, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_([*self.average.values()], self._parameters(), 1 - inertia)

    def averaged(self) -> "Averaged":
        """The networks as their running average, inside a `with`."""
        return Averaged(self)

    def save(self) -> None:
        state: dict[str, Any] = {
            "networks": {k: n.state_dict() for k, n in self.networks.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "begun": self.begun,
            "seconds": self.seconds,
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._checkpoint)

    def log(self, **values: object) -> None:
        line = json.dumps({"step": self.step, "seconds": round(self.seconds), **values})
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def until(self, steps: int, save_every: int = 100) -> Iterator[int]:
        """Step numbers up to `steps`, a checkpoint now and then and at the end."""
        while self.step < steps:
            begun = time.perf_counter()
            yield self.step
            self.seconds += time.perf_counter() - begun
            if self.step % save_every == 0 or self.step == steps:
                self.save()


@dataclass
class Averaged:
    """Swaps the average in, and back out."""

    run: Run

    def _swap(self) -> None:
        with torch.no_grad():
            for (_, p), a in zip(self.run._named(), self.run.average.values(), strict=True):
                kept = p.clone()
                p.copy_(a)
                a.copy_(kept)

    def __enter__(self) -> None:
        self._swap()
        for network in self.run.networks.values():
            network.eval()

    def __exit__(self, *_: object) -> None:
        self._swap()
        for network in self.run.networks.values():
            network.train()


@dataclass
class Pool:
    """Scenes painted a few at a time and drawn from many times.

    Painting costs as much as a fifth of a training step; a pool that is renewed by a quarter of a
    batch each step makes that a twentieth, and a picture is seen four times before it goes.
    """

    painter: Painter
    size: int
    seed: int
    pictures: Tensor | None = None
    scenes: list[Scene] = field(default_factory=list[Scene])
    _next: int = 0

    def renew(self, count: int, lesson: Lesson, step: int) -> None:
        r = random.Random(f"{self.seed} {step}")
        count = count if self.scenes else self.size
        for chunk in _chunks([imagine(r, lesson) for _ in range(count)], 256):
            painted = (self.painter.paint(chunk) * 127.5 + 127.5).round().byte()
            if self.pictures is None:
                self.pictures = painted.new_empty(self.size, *painted.shape[1:])
            for scene, picture in zip(chunk, painted, strict=True):
                self.pictures[self._next] = picture
                self.scenes[self._next : self._next + 1] = [scene]
                self._next = (self._next + 1) % self.size

    def draw(self, count: int, r: random.Random) -> tuple[Tensor, list[Scene]]:
        """Pictures [count, 3, 128, 128] in [-1, 1] and their scenes."""
        assert self.pictures is not None
        rows = [r.randrange(len(self.scenes)) for _ in range(count)]
        chosen = self.pictures[torch.tensor(rows, device=self.pictures.device)]
        return chosen.float() / 127.5 - 1, [self.scenes[i] for i in rows]


def _chunks(items: list[Scene], size: int) -> Iterable[list[Scene]]:
    return (items[i : i + size] for i in range(0, len(items), size))
