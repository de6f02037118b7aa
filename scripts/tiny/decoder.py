"""Trains the VAE: an encoder that sees the thumbnail, a decoder that paints the picture from it.

First by the error alone; then the encoder is done, and the decoder goes on before a critic; in the
end, where there is a UNet, it also learns from thumbnails that the UNet has painted, which are
never quite right.
"""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from critic import LISTENED_AFTER, LOUDNESS, Critic, pulls
from denoiser import Denoiser
from networks import vae
from pictures import LATENT_SCALE, Painter, sheet, thumbnails
from runs import Curriculum, Pool, Published, Run, brisk
from scenes import Lesson, Scene

LESSONS = Curriculum(
    (
        (0, Lesson(48)),
        (1500, Lesson(112, places=True, scenes=True, groups=0.2)),
        (8400, Lesson(112, places=True, scenes=True, groups=0.4)),
    )
)
CRITICISED_FROM = 8400
"""The step from which on the critic looks on."""
ROUGHNESS = 0.1
"""Most noise on the latents in training: what the denoiser paints is never quite a thumbnail."""
REPAINTED_FROM = 18000
"""The step from which on the denoiser itself paints half of the thumbnails anew."""
REPAINTED = (100, 600)
"""The times from which it does."""


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
    folder: Path,
    painter: Painter,
    steps: int,
    batch: int,
    published: Published | None,
    denoiser: Denoiser | None,
) -> None:
    torch.manual_seed(0)
    device = painter.device
    # on a processor the norms' way back is slow where channels lie last
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    net, critic = (n.to(device, memory_format=layout) for n in (vae(), Critic()))
    run = Run(folder, {"vae": net, "critic": critic}, peak=6e-4, published=published)
    pool = Pool(painter, size=512, seed=1)
    kept: list[dict[str, float]] = []
    for step in run.until(steps):
        pool.renew(batch // 2, LESSONS.at(step), step)
        pictures, scenes = pool.draw(batch, random.Random(step))
        target = thumbnails(pictures)
        rough = _roughened(target, step)
        repaints = denoiser is not None and step >= REPAINTED_FROM
        if denoiser and repaints:
            rough[::2] = repainted(denoiser, target[::2], scenes[::2], step)
        with brisk(device):
            painted = net.decode(rough, return_dict=False)[0].float()
        error = painting_error(painted, pictures)
        squared = (painted.detach() - pictures).square().mean((1, 2, 3))
        losses = {"squared": squared[1::2].mean()}
        if repaints:
            losses["repainted"] = squared[::2].mean()
        if step < CRITICISED_FROM:
            few = slice(0, max(1, batch // 4))
            losses["seeing"] = _seeing_error(net, pictures[few], target[few])
            loss = error + losses["seeing"]
        else:
            heard = (step - max(CRITICISED_FROM, run.begun)) / LISTENED_AFTER
            with brisk(device):
                losses["mistakes"] = critic.mistakes(painted, pictures, target)
                complaints = critic.complaints(painted, pictures, target)
            loss = losses["mistakes"] + pulls(painted, error, complaints, LOUDNESS * min(1, heard))
        run.descend(loss, steps)
        kept.append({name: value.item() for name, value in losses.items()})
        if run.step % 50 == 0:
            last = [x for x in kept[-50:] if x.keys() == kept[-1].keys()]
            mean = {k: sum(x[k] for x in last) / len(last) for k in kept[-1]}
            for name in {"squared", "repainted"} & mean.keys():
                mean[name] = -10 * math.log10(mean[name] / 4)  # signal to noise in dB
            run.log(psnr=round(mean.pop("squared"), 2), **{k: round(v, 4) for k, v in mean.items()})
        if run.step % 500 == 0:
            seen = [target[:8]] + ([rough[:16:2]] if repaints else [])
            with run.averaged(), torch.no_grad():
                shown = [net.decode(z, return_dict=False)[0] for z in seen]
            rows = torch.cat([*shown, pictures[:8]])
            sheet(rows, 8).save(run.folder / f"sheet-{run.step}.png")


def _roughened(target: Tensor, step: int) -> Tensor:
    """The thumbnails with more noise or less."""
    g = torch.Generator(target.device).manual_seed(step)
    noise = torch.randn(target.shape, generator=g, device=target.device)
    return target + ROUGHNESS * noise * torch.rand(
        len(target), 1, 1, 1, generator=g, device=target.device
    )


def repainted(denoiser: Denoiser, target: Tensor, scenes: list[Scene], step: int) -> Tensor:
    """The thumbnails as the denoiser would have painted them."""
    r = random.Random(f"repainted {step}")
    g = torch.Generator(target.device).manual_seed(r.getrandbits(63))
    noise = torch.randn(target.shape, generator=g, device=target.device)
    with brisk(target.device):
        z = denoiser.repaint(
            target * LATENT_SCALE,
            noise,
            r.randint(*REPAINTED),
            [scene.caption for scene in scenes],
        )
    return z / LATENT_SCALE


def _seeing_error(net: AutoencoderKL, pictures: Tensor, target: Tensor) -> Tensor:
    """How far the encoder is from the thumbnails, and its spread from next to nothing."""
    seen = net.encode(pictures).latent_dist
    return F.mse_loss(seen.mean, target) + 0.01 * (seen.logvar + 10).square().mean()
