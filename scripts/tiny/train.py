"""Trains tiny from nothing: `python scripts/tiny/train.py --run runs/tiny`.

Each part can be trained alone and goes on where it stopped. `--device cuda` trains on a GPU.
"""

import argparse
from pathlib import Path

import torch
from transformers import CLIPTokenizer

import decoder
import denoiser
from captions import phrases
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
    parser.add_argument("--vae-steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--published", type=Path, help="an exported model to go on from")
    given = parser.parse_args()

    if not given.font.is_file():
        parser.error(f"no font at {given.font}; Debian's is fonts-noto-color-emoji, or give --font")
    device = torch.device(given.device)
    painter = Painter(device, given.font)
    published = Published.read(given.published) if given.published else None
    if given.part != "unet":
        decoder.train(given.run / "vae", painter, given.vae_steps, given.batch // 4, published)
    if given.part != "vae":
        words = given.run / "tokenizer"
        if not words.exists():  # else a checkpoint counts on it
            write_tokenizer(words, phrases(EVERYTHING.things, scenes=EVERYTHING.scenes))
        tokenizer = CLIPTokenizer.from_pretrained(words)
        if published:
            published = published.respelled(tokenizer)
        denoiser.train(
            given.run / "unet", tokenizer, painter, given.unet_steps, given.batch, published
        )


if __name__ == "__main__":
    main()
