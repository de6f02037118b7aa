"""The quickest picture that `gen` paints, and what to compare of two."""

from PIL import Image

QUICK = ("gen", "a cat", "--steps", "2", "--seed", "1", "-m", "tiny")


def pixels(path):
    with Image.open(path) as picture:
        return picture.tobytes()
