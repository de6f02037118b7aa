"""Paints the sheet in README: `python scripts/tiny/show.py --to docs/tiny.png`."""

import argparse
from pathlib import Path

from PIL import Image

from sdfast import Job, generate, load_model

PROMPTS = """a cat
a red apple
a rocket on a blue background
two dogs
a house in the snow
a pizza on the left
a panda
an owl at night
a castle on a pink background
a sunflower in a meadow
a fish underwater
three strawberries
a big soccer ball
a penguin and a mushroom
a robot on a yellow background
a car on the beach""".splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("docs/tiny.png"))
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    given = parser.parse_args()

    model = load_model(given.model)
    pictures: list[Image.Image] = []
    for prompt in given.prompts:
        *_, painted = generate(model, Job(prompt=prompt, seed=given.seed))
        pictures.append(painted.image)
    width, height = pictures[0].size
    rows = -(-len(pictures) // given.columns)
    page = Image.new("RGB", (width * given.columns, height * rows), "white")
    for i, picture in enumerate(pictures):
        page.paste(picture, (i % given.columns * width, i // given.columns * height))
    given.to.parent.mkdir(parents=True, exist_ok=True)
    page.save(given.to, optimize=True)


if __name__ == "__main__":
    main()
