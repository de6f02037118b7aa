"""Trains the VAE: an encoder that sees the thumbnail, a decoder that paints the picture from it."""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from networks import vae
from pictures import Lesson, Painter, sheet, thumbnails
from runs import Curriculum, Pool, Published, Run, brisk

LESSONS = Curriculum(
    (
        (0, Lesson(48)),
        (1500, Lesson(112, places=True, scenes=True, groups=0.2)),
    )
)
ROUGHNESS = 0.06
"""Noise on the latents in training: what the denoiser paints is never quite a thumbnail."""


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def painting_error(painted: Tensor, wanted: Tensor) -> Tensor:
    """Absolute and squared error, and the error of the edges at two scales."""
    error = F.l1_loss(painted, wanted) + F.mse_loss(painted, wanted)
    for scale in (1, 2):
        a, b = (F.avg_pool2d(x, scale) if scale > 1 else x for x in (painted, wanted))
        error = error + 0.5 * sum(
            F.l1_loss(p, q) for p, q in zip(_edges(a), _edges(b), strict=True)
        )
    return error


def train(
    folder: Path, painter: Painter, steps: int, batch: int, published: Published | None
) -> None:
    torch.manual_seed(0)
    device = painter.device
    net = vae().to(device, memory_format=torch.channels_last)
    run = Run(folder, {"vae": net}, peak=1e-3, published=published)
    pool = Pool(painter, size=512, seed=1)
    losses: list[tuple[float, float]] = []
    for step in run.until(steps):
        pool.renew(batch // 2, LESSONS.at(step), step)
        pictures, _ = pool.draw(batch, random.Random(step))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        target = thumbnails(pictures)
        g = torch.Generator(device).manual_seed(step)
        rough = target + ROUGHNESS * torch.randn(target.shape, generator=g, device=device)
        with brisk(device):
            painted = net.decode(rough, return_dict=False)[0].float()
        painting = painting_error(painted, pictures)
        few = slice(0, max(1, batch // 4))
        seeing = torch.zeros((), device=device)
        if step % 2 == 0:
            seen = net.encode(pictures[few]).latent_dist
            wide = (seen.logvar + 10).square().mean()
            seeing = F.mse_loss(seen.mean, target[few]) + 0.01 * wide
        run.descend(painting + seeing, steps)
        losses.append((F.mse_loss(painted.detach(), pictures).item(), seeing.item()))
        if run.step % 50 == 0:
            squared = sum(a for a, _ in losses[-50:]) / 50
            decibels = -10 * torch.log10(torch.tensor(squared / 4)).item()
            run.log(psnr=round(decibels, 2), seeing=round(sum(b for _, b in losses[-50:]) / 25, 4))
        if run.step % 500 == 0:
            with run.averaged(), torch.no_grad():
                shown = net.decode(target, return_dict=False)[0]
            both = torch.cat([shown[:8], pictures[:8]])
            sheet(both, 8).save(run.folder / f"sheet-{run.step}.png")
