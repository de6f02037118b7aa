"""A judge that knows nothing of the generator: it says what a picture shows.

A small network looks at a picture and names the things, the background and how many there are. It
is trained on rendered pictures only, roughened as any picture may be (blur, noise, block artefacts,
colour casts), and never on a generated one; so what it says of those is said by an outsider.

python scripts/tiny/judge.py --run runs/judge --to scripts/tiny/judge.safetensors
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backdrops import COLOURS, SCENES
from pictures import FONT, Painter
from runs import Pool, Run
from scenes import EVERYTHING, Lesson, Scene, imagine
from things import THINGS

WEIGHTS = Path(__file__).with_name("judge.safetensors")
NAMES = tuple(names[0] for names in THINGS.values())
BACKGROUNDS = (*COLOURS, *SCENES, "open")
"""`open` is a pale shade of no name, which a caption leaves unsaid."""
COUNTS = ("one", "two", "three", "pair")
"""One, two or three of a thing, or two things that differ."""


class Seen(NamedTuple):
    """What a picture shows."""

    things: frozenset[int]
    """Rows of THINGS: two for a pair, else one."""
    background: str
    count: str


class Said(NamedTuple):
    """What the judge says of a picture."""

    likeliest: tuple[int, int]
    """The two things it sees most of, the clearer one first."""
    background: str
    count: str

    def names(self, things: frozenset[int]) -> bool:
        """Whether these are the things in the picture; of two, both must be seen."""
        return frozenset(self.likeliest[: len(things)]) == things


def truth(scene: Scene) -> Seen:
    """What a rendered scene shows, said or unsaid by its caption."""
    things = frozenset(layer.thing for layer in scene.layers)
    plain = "white" if scene.backdrop.top == COLOURS["white"] else "open"
    count = "pair" if len(things) == 2 else COUNTS[len(scene.layers) - 1]
    return Seen(things, scene.background or plain, count)


class _Block(nn.Module):
    """Half the side, more channels, and a shortcut around two convolutions."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(8, after), nn.GroupNorm(8, after)])
        self.short = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(h + self.short(F.avg_pool2d(x, 2)))


class Judge(nn.Module):
    """Pictures [n, 3, 128, 128] in [-1, 1] in, scores for things, backgrounds and counts out."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2, bias=False),
            nn.GroupNorm(8, 32),
            nn.ReLU(),
            _Block(32, 64),
            _Block(64, 96),
            _Block(96, 128),
        )
        self.name = nn.Conv2d(128, len(NAMES), 1)
        self.tell = nn.Linear(256, len(BACKGROUNDS) + len(COUNTS))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Each of 4 x 4 cells names what it sees, and the clearest cells are heard: two things
        side by side are two cells of one opinion each."""
        h = self.look(F.avg_pool2d(pictures, 2))
        things = self.name(h).flatten(2).logsumexp(2)
        told = self.tell(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))
        return things, *told.split([len(BACKGROUNDS), len(COUNTS)], 1)

    @torch.no_grad()
    def say(self, pictures: Tensor) -> list[Said]:
        """What each picture shows."""
        said: list[Said] = []
        for chunk in pictures.split(250):
            things, backgrounds, counts = self(chunk)
            top = things.topk(2).indices.tolist()
            rest = zip(backgrounds.argmax(1).tolist(), counts.argmax(1).tolist(), strict=True)
            said += [
                Said((a, b), BACKGROUNDS[i], COUNTS[j])
                for (a, b), (i, j) in zip(top, rest, strict=True)
            ]
        return said


def load_judge(weights: Path = WEIGHTS, device: str | torch.device = "cpu") -> Judge:
    """The trained judge. Its weights must be of these very things, in this order."""
    with safe_open(weights, "pt") as file:
        known = json.loads(file.metadata()["names"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if known != [*NAMES, *BACKGROUNDS, *COUNTS]:
        raise SystemExit(f"{weights} was trained for other things; train it anew with judge.py")
    judge = Judge()
    judge.load_state_dict(state)
    return judge.eval().to(device)


def save_judge(judge: Judge, weights: Path) -> None:
    """Write the weights in half precision, with the names of what they tell apart."""
    names = json.dumps([*NAMES, *BACKGROUNDS, *COUNTS])
    state = {k: v.detach().half().cpu().contiguous() for k, v in judge.state_dict().items()}
    save_file(state, weights, {"names": names})


def _waves() -> Tensor:
    """The cosines of an 8 x 8 block, as JPEG takes it apart, [64, 1, 8, 8]."""
    k = torch.arange(8)
    wave = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    wave[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", wave, wave).reshape(64, 1, 8, 8)


def _blocky(pictures: Tensor, coarse: Tensor) -> Tensor:
    """Pictures as JPEG leaves them; `coarse` [n] is the step of the mean, and waves get more."""
    waves = _waves().to(pictures.device)
    steps = 1 + torch.arange(8)[:, None] + torch.arange(8)
    steps = coarse[:, None, None, None] * steps.flatten().to(pictures.device)[:, None, None]
    flat = pictures.flatten(0, 1)[:, None]
    steps = steps.repeat_interleave(pictures.shape[1], 0)
    parts = (F.conv2d(flat, waves, stride=8) / steps).round() * steps
    return F.conv_transpose2d(parts, waves, stride=8).reshape(pictures.shape)


def _through(pictures: Tensor, side: int) -> Tensor:
    """Pictures shrunk to `side` pixels and blown up again."""
    whole = pictures.shape[-1]
    if side == whole:
        return pictures
    small = F.interpolate(pictures, side, mode="bilinear", antialias=True)
    return F.interpolate(small, whole, mode="bilinear")


def roughen(pictures: Tensor, r: random.Random, g: torch.Generator) -> Tensor:
    """Pictures as they come from anywhere: blurred, noisy, in blocks, with a cast."""

    def some(*shape: int) -> Tensor:
        return torch.rand(len(pictures), *shape, generator=g, device=pictures.device)

    sides = (128, 128, 96, 64, 48, 32)
    x = torch.cat([_through(part, r.choice(sides)) for part in pictures.split(8)])
    x = x * (0.92 + 0.16 * some(1, 1, 1)) + 0.08 * (some(3, 1, 1) - 0.5)
    noise = torch.randn(x.shape, generator=g, device=x.device)
    x = x + 0.12 * some(1, 1, 1) * (some(1, 1, 1) < 0.5) * noise
    half = len(x) // 2
    return torch.cat([_blocky(x[:half], 0.01 + 0.09 * some()[:half]), x[half:]])


def _errors(judge: Judge, pictures: Tensor, seen: Sequence[Seen]) -> Tensor:
    """Cross-entropy of the three answers; two things share the first."""
    things = torch.zeros(len(seen), len(NAMES))
    for row, s in zip(things, seen, strict=True):
        row[[*s.things]] = 1 / len(s.things)
    backgrounds = torch.tensor([BACKGROUNDS.index(s.background) for s in seen])
    counts = torch.tensor([COUNTS.index(s.count) for s in seen])
    said = judge(pictures.contiguous(memory_format=torch.channels_last))
    wanted = (x.to(pictures.device) for x in (things, backgrounds, counts))
    return sum(
        weight * F.cross_entropy(a, b)
        for weight, a, b in zip((1, 0.3, 0.3), said, wanted, strict=True)
    )


def _held_out(painter: Painter, lesson: Lesson, count: int) -> tuple[Tensor, list[Seen]]:
    """Pictures that no training saw, and the truth about them."""
    r = random.Random("held out")
    scenes = [imagine(r, lesson) for _ in range(count)]
    pictures = [painter.paint(scenes[i : i + 250]) for i in range(0, count, 250)]
    return torch.cat(pictures), [truth(s) for s in scenes]


def right(judge: Judge, pictures: Tensor, seen: Sequence[Seen]) -> dict[str, float]:
    """How often the judge is right, in percent; `both` is of pairs alone."""
    pairs = list(zip(judge.say(pictures), seen, strict=True))
    hits = {
        "thing": [said.names(s.things) for said, s in pairs],
        "both": [said.names(s.things) for said, s in pairs if len(s.things) == 2],
        "background": [said.background == s.background for said, s in pairs],
        "count": [said.count == s.count for said, s in pairs],
    }
    return {name: round(100 * sum(h) / len(h), 1) for name, h in hits.items() if h}


def train(folder: Path, painter: Painter, steps: int, batch: int) -> Judge:
    """The judge after so many steps, its running average in place."""
    torch.manual_seed(0)
    judge = Judge().to(painter.device, memory_format=torch.channels_last)
    run = Run(folder, {"judge": judge}, peak=3e-3, inertia=0.99)
    pool = Pool(painter, size=2048, seed=2)
    pictures, seen = _held_out(painter, EVERYTHING, 500)
    losses: list[float] = []
    for step in run.until(steps):
        pool.renew(batch // 4, EVERYTHING, step)
        drawn, scenes = pool.draw(batch, random.Random(step))
        g = torch.Generator(painter.device).manual_seed(step)
        rough = roughen(drawn, random.Random(step), g)
        loss = _errors(judge, rough, [truth(s) for s in scenes])
        run.descend(loss, steps)
        losses.append(loss.item())
        if run.step % 200 == 0:
            with run.averaged():
                run.log(loss=round(sum(losses[-200:]) / 200, 4), **right(judge, pictures, seen))
    run.averaged().__enter__()
    return judge


def report(judge: Judge, painter: Painter, model: Path, count: int) -> None:
    """Print how often the judge is right on held-out pictures, plain and painted by the VAE."""
    vae = AutoencoderKL.from_pretrained(model / "vae").to(painter.device).eval()
    taught = len(json.loads((model / "sdfast.json").read_text())["things"])
    for what, lesson in {
        "everything": EVERYTHING,
        f"the {taught} things of {model.name}, one at a time": Lesson(taught, places=True),
    }.items():
        pictures, seen = _held_out(painter, lesson, count)
        with torch.no_grad():
            painted = torch.cat(
                [vae.decode(vae.encode(p).latent_dist.mean).sample for p in pictures.split(50)]
            )
        print(f"{what}, {count} held-out pictures:")
        print(f"  as rendered      {right(judge, pictures, seen)}")
        print(f"  through the VAE  {right(judge, painted, seen)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/judge"))
    parser.add_argument("--to", type=Path, default=WEIGHTS)
    parser.add_argument("--font", type=Path, default=FONT, help="NotoColorEmoji.ttf")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", type=Path, default=Path("sdfast/models/tiny"))
    parser.add_argument("--count", type=int, default=500, help="held-out pictures to report on")
    parser.add_argument("--report", action="store_true", help="only report on the weights at --to")
    given = parser.parse_args()

    if not given.font.is_file():
        parser.error(f"no font at {given.font}; Debian's is fonts-noto-color-emoji, or give --font")
    painter = Painter(torch.device(given.device), given.font)
    if not given.report:
        save_judge(train(given.run, painter, given.steps, given.batch), given.to)
    report(load_judge(given.to, painter.device), painter, given.model, given.count)


if __name__ == "__main__":
    main()
