"""Trains the UNet together with its text encoder, on thumbnails of the pictures."""

import random
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from networks import SCHEDULE, text_encoder, unet
from pictures import LATENT_SCALE, Painter, sheet, thumbnails
from runs import Curriculum, Pool, Published, Run, brisk
from scenes import Lesson, imagine

LESSONS = Curriculum(
    (
        (0, Lesson(32, wordings=False)),
        (1500, Lesson(48)),
        (3000, Lesson(64, places=True)),
        (4500, Lesson(80, places=True, scenes=True, groups=0.2)),
        (7000, Lesson(112, places=True, scenes=True, groups=0.2)),
        (16000, Lesson(112, places=True, scenes=True, groups=0.4)),
        (23000, Lesson(112, places=True, scenes=True, groups=0.5)),
    )
)
UNPROMPTED = 0.1
"""Share of captions left empty, for classifier-free guidance."""


class Denoiser(nn.Module):
    """Words and noisy latents in, velocity out."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        device: torch.device,
        trained: dict[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokenizer, self.device = tokenizer, device
        known = trained or {"text": text_encoder(len(tokenizer)), "unet": unet()}
        self.text = known["text"].float().to(device)
        self.unet = known["unet"].float().to(device, memory_format=torch.channels_last)
        betas = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000)
        signal = torch.cumprod(1 - betas.double() ** 2, 0)
        self.alpha = signal.sqrt().float().to(device)
        self.sigma = (1 - signal).sqrt().float().to(device)

    def read(self, captions: list[str]) -> Tensor:
        found = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        return self.text(found.input_ids.to(self.device)).last_hidden_state

    def errors(self, z: Tensor, noise: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """Mean squared error of the velocity, one per picture."""
        alpha, sigma = (s[t][:, None, None, None] for s in (self.alpha, self.sigma))
        x = (alpha * z + sigma * noise).contiguous(memory_format=torch.channels_last)
        said = self.unet(x, t, self.read(captions), return_dict=False)[0]
        return (said - (alpha * noise - sigma * z)).square().mean((1, 2, 3))

    def sample(self, captions: list[str], steps: int = 20, guidance: float = 3.0) -> Tensor:
        """Latents for the captions, [n, 4, 16, 16]."""
        solver = DPMSolverMultistepScheduler(**SCHEDULE, prediction_type="v_prediction")
        solver.set_timesteps(steps)
        g = torch.Generator().manual_seed(0)
        x = torch.randn(len(captions), 4, 16, 16, generator=g).to(self.device)
        return self._walked(x, captions, solver, guidance)

    def repaint(
        self, z: Tensor, noise: Tensor, t: int, captions: list[str], guidance: float = 3.0
    ) -> Tensor:
        """The latents with as much noise as at that time, denoised again in a few calls.

        They show the same (SDEdit, arXiv 2108.01073), but with what this UNet gets wrong.
        """
        solver = DPMSolverMultistepScheduler(**SCHEDULE, prediction_type="v_prediction")
        solver.set_timesteps(timesteps=[t, 3 * t // 4, t // 2, t // 4])
        return self._walked(self.alpha[t] * z + self.sigma[t] * noise, captions, solver, guidance)

    @torch.no_grad()
    def _walked(
        self, x: Tensor, captions: list[str], solver: DPMSolverMultistepScheduler, guidance: float
    ) -> Tensor:
        context = self.read([""] * len(captions) + captions)
        for t in solver.timesteps:
            said = self.unet(torch.cat([x, x]), t, context, return_dict=False)[0]
            plain, prompted = said.float().chunk(2)
            x = solver.step(plain + guidance * (prompted - plain), t, x).prev_sample
        return x


def _report(run: Run, net: Denoiser, pool: Pool, lesson: Lesson) -> dict[str, object]:
    """Error with and without the words at four noise levels; words are used where they differ."""
    r = random.Random(0)
    pictures, scenes = pool.draw(64, r)
    z, g = thumbnails(pictures) * LATENT_SCALE, torch.Generator().manual_seed(0)
    noise = torch.randn(z.shape, generator=g).to(z.device)
    levels = {}
    with run.averaged(), torch.no_grad():
        for level in (150, 400, 650, 900):
            t = torch.full((len(z),), level, device=z.device)
            told = net.errors(z, noise, t, [s.caption for s in scenes]).mean().item()
            untold = net.errors(z, noise, t, [""] * len(z)).mean().item()
            levels[level] = (round(told, 4), round(untold, 4))
        if run.step % 1000 == 0:
            r = random.Random(1)
            asked = [imagine(r, lesson).caption for _ in range(32)]
            drawn = net.sample(asked)[:, :3] / LATENT_SCALE
            drawn = nn.functional.interpolate(drawn, scale_factor=4, mode="bilinear")
            sheet(drawn, 8).save(run.folder / f"sheet-{run.step}.png")
    return {"things": lesson.things, "told_untold": levels}


def train(
    folder: Path,
    tokenizer: CLIPTokenizer,
    painter: Painter,
    steps: int,
    batch: int,
    published: Published | None,
) -> None:
    device = painter.device
    net = Denoiser(tokenizer, device)
    run = Run(folder, {"unet": net.unet, "text": net.text}, peak=6e-4, published=published)
    pool = Pool(painter, size=2048, seed=0)
    losses: list[float] = []
    for step in run.until(steps):
        lesson = LESSONS.at(step)
        pool.renew(batch // 4, lesson, step)
        r = random.Random(step)
        pictures, scenes = pool.draw(batch, r)
        z = thumbnails(pictures) * LATENT_SCALE
        captions = ["" if r.random() < UNPROMPTED else s.caption for s in scenes]
        g = torch.Generator(device).manual_seed(step)
        noise = torch.randn(z.shape, generator=g, device=device)
        t = torch.randint(0, 1000, (batch,), generator=g, device=device)
        with brisk(device):
            loss = net.errors(z, noise, t, captions).mean()
        run.descend(loss, steps)
        losses.append(loss.item())
        if run.step % 100 == 0:
            mean = round(sum(losses[-100:]) / 100, 4)
            levels = _report(run, net, pool, lesson) if run.step % 500 == 0 else {}
            run.log(loss=mean, **levels)
