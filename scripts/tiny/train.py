"""Trains tiny from nothing: `python scripts/tiny/train.py --run runs/tiny`.

Each part can be trained alone and goes on where it stopped. `--device cuda` trains on a GPU. The
VAE comes last, as its decoder learns from what the UNet paints: the run's, else the published one.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import CLIPTokenizer

import decoder
import denoiser
from captions import phrases
from export import averaged
from networks import text_encoder, unet
from pictures import FONT, Painter
from runs import Published
from scenes import EVERYTHING
from words import write_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("all", "unet", "vae"), nargs="?", default="all")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--font", type=Path, default=FONT, help="NotoColorEmoji.ttf")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--unet-steps", type=int, default=60000)
    parser.add_argument("--vae-steps", type=int, default=30000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--published", type=Path, help="an exported model to go on from")
    given = parser.parse_args()

    if not given.font.is_file():
        parser.error(f"no font at {given.font}; Debian's is fonts-noto-color-emoji, or give --font")
    device = torch.device(given.device)
    painter = Painter(device, given.font)
    published = Published.read(given.published) if given.published else None
    if given.part != "vae":
        words = given.run / "tokenizer"
        if not words.exists():  # else a checkpoint counts on it
            write_tokenizer(words, phrases(EVERYTHING.things, scenes=EVERYTHING.scenes))
        tokenizer = CLIPTokenizer.from_pretrained(words)
        again = published and published.respelled(tokenizer)
        denoiser.train(given.run / "unet", tokenizer, painter, given.unet_steps, given.batch, again)
    if given.part != "unet":
        hand = _trained(given.run, given.published, device)
        if not hand and given.vae_steps > decoder.REPAINTED_FROM:
            print("no UNet: the decoder learns from true thumbnails only", file=sys.stderr)
        decoder.train(
            given.run / "vae", painter, given.vae_steps, given.batch // 4, published, hand
        )


def _trained(run: Path, published: Path | None, device: torch.device) -> denoiser.Denoiser | None:
    """The denoiser of the run, else the published one; None if there is none."""
    own = (run / "unet" / "checkpoint.pt").exists()
    home = run if own else published
    if home is None:
        return None
    tokenizer = CLIPTokenizer.from_pretrained(home / "tokenizer")
    if own:
        bare = {"unet": unet(), "text": text_encoder(len(tokenizer))}
        networks, steps = averaged(run / "unet", bare, None)
    else:
        known = Published.read(home)
        networks, steps = known.networks, known.steps["unet"]
    print(f"the decoder learns from the UNet of {home}, step {steps}", file=sys.stderr)
    return denoiser.Denoiser(tokenizer, device, networks).eval()


if __name__ == "__main__":
    main()
