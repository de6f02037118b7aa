"""Where finished pictures go, and what is said about them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdfast.cli import remarks
from sdfast.cli.streams import json_line
from sdfast.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdfast.batch.events import Picture
    from sdfast.cli.painter import Painter
    from sdfast.events import Finished, Times
    from sdfast.job import Job
    from sdfast.naming import Exists


@dataclass(frozen=True, slots=True)
class Output:
    """What was said about the pictures: where, how, and to whom to talk about it."""

    out: str | None
    presets: Sequence[str]
    """One for each picture, or a single one for all."""
    exists: Exists
    metadata: bool
    as_json: bool
    say: Callable[[str], None]
    count: int
    aliases: Mapping[str, str]
    """A person's own names of models: a picture tells what they stand for."""
    begun: datetime = field(default_factory=datetime.now)
    template: str | None = None
    """What a picture is called in a folder; None is as ever."""
    show: bool = False
    """Whether they are drawn in the terminal, too, on stderr."""
    colour: bool = True

    @property
    def to_stdout(self) -> bool:
        return self.out == "-"

    def check(self, job: Job) -> None:
        """Raise UsageError for what can be seen to go wrong before a model is even looked for."""
        from sdfast.writing import check_folder

        if self.to_stdout:
            if sys.__stdout__ is None:
                raise UsageError("`-o -` writes to stdout, which is closed")
            if self.as_json:
                raise UsageError("`-o -` and `--json` both write to stdout", "give one of them")
            if self.count > 1 or sys.stdout.isatty():
                raise UsageError(
                    "`-o -` writes one picture into a pipe or a file",
                    "-o - > cat.png",
                )
            return
        if "://" in (self.out or ""):
            raise UsageError(f"`{self.out}` is a URL, which only `sdfast batch` writes to")
        check_folder(self._destination(job, 1).parent)

    def places(self, jobs: list[Job]) -> list[Path]:
        """Where each job's picture goes. Raises UsageError if two would take one name."""
        from sdfast.naming import Exists

        if self.to_stdout:
            return [Path("-")]
        places = [self._destination(job, i) for i, job in enumerate(jobs, start=1)]
        if len(set(places)) < len(places) and self.exists is not Exists.RENAME:
            raise UsageError(
                f"several pictures would be called the same, and `--exists` is `{self.exists}`",
                "a template such as `{slug}-{seed}-{i}.png` tells them apart",
            )
        return places

    def _destination(self, job: Job, index: int) -> Path:
        from sdfast.naming import TEMPLATE, destination, fields

        preset = self.presets[(index - 1) % len(self.presets)]
        words = fields(job, self.begun, preset, index, self.count)
        return destination(self.out, words, self.template or TEMPLATE)

    def check_room(self, jobs: Sequence[Job], places: Sequence[Path]) -> None:
        """Raise UsageError if the recipe of a complete job is too long for its file."""
        from sdfast.image_files import check_room, is_photo

        for job, place in zip(jobs, places, strict=True):
            if is_photo(place) and job.size is not None and not self.keeps(place):
                check_room(self.recipe(job), place, job.size)

    def keeps(self, place: Path) -> bool:
        """Whether a picture is there that shall be kept."""
        from sdfast.naming import settle

        return not self.to_stdout and settle(place, self.exists) is None

    def ready(self, place: Path, about: Mapping[str, object]) -> bool:
        """Whether to paint a picture, or it is there already and shall be kept, which is told.

        Makes the folder, so that one that cannot be made is found out before the painting.
        """
        from sdfast.writing import unwritable

        if self.to_stdout:
            return True
        if self.keeps(place):
            self.say(f"kept {place}, which is there already")
            kept = {"path": str(place), "skipped": True, **about}
            print(json_line(kept) if self.as_json else place, flush=True)
            return False
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(place.parent, error) from error
        return True

    def write(self, painted: Sequence[Finished], places: Sequence[Path], painter: Painter) -> None:
        """Write the pictures, tell their paths on stdout and where the time went on stderr."""
        from sdfast import image_files

        begun = time.perf_counter()
        pictures = [(done.image, self.recipe(done.job)) for done in painted]
        files = image_files.encode_all(pictures, places[0])
        share = (time.perf_counter() - begun) / len(files)
        written: list[tuple[Finished, Path, float]] = []
        try:
            for done, file, place in zip(painted, files, places, strict=True):
                begun = time.perf_counter()
                there = self.put(file, place)
                written.append((done, there, share + time.perf_counter() - begun))
        finally:  # all are there before one is told, as nobody may want to hear of it
            for done, there, spent in written:
                self._tell(done, there, painter, spent)

    def recipe(self, job: Job) -> dict[str, str]:
        """What a picture's file tells of a complete job, if anything."""
        from sdfast.saving import recipe_of

        return recipe_of(job, self.aliases) if self.metadata else {}

    def _tell(self, painted: Finished, place: Path, painter: Painter, write: float) -> None:
        """Tell of one that took so many seconds to write."""
        if self.as_json:
            line = {"path": str(place), **line_of(painted, painter, write)}
            print(json_line(line), flush=True)
        elif not self.to_stdout:
            print(place, flush=True)
        self.draw(painted.image)
        tell_times(painted, painter, write, self.say)

    def draw(self, image: Image) -> None:
        """Draw what is written in the terminal, if that is wanted."""
        if not self.show:
            return
        from sdfast.terminal import draw

        if why_not := draw(image, sys.stderr, os.environ, colour=self.colour):
            self.say(f"note: no picture is drawn here: {why_not}")

    def put(self, file: bytes, place: Path) -> Path:
        """Write a whole file; where it is then."""
        from sdfast.naming import keep

        if self.to_stdout:
            sys.stdout.buffer.write(file)
            sys.stdout.flush()
            return place
        # None if another process has painted it meanwhile
        return keep(file, place, exists=self.exists) or place


def line_of(done: Finished | Picture, by: Painter | Picture, write: float) -> dict[str, Any]:
    """A picture and where its time went, for programs: every step's in ms, the rest in seconds.

    A batch's picture knows itself who painted it.
    """
    from sdfast.events import judged

    times = done.times
    return {
        **done.job.record,
        "device": by.device,
        "dtype": by.dtype,
        "together": done.together,
        "seconds": round(times.total + write, 6),
        "load_s": round(by.load, 6),
        "encode_s": round(times.encode, 6),
        "steps_ms": [round(1000 * s, 3) for s in times.steps],
        "decode_s": round(times.decode, 6),
        "write_s": round(write, 6),
        **judged(done.unsafe),
    }


def tell_times(
    painted: Finished,
    painter: Painter,
    write: float,
    say: Callable[[str], None],
    name: str | None = None,
) -> None:
    """Where a picture's time went, for people, and what else is worth knowing of it."""
    job, times = painted.job, painted.times
    told = (
        remarks.decoded_again(painted.decoded_again),
        remarks.in_tiles(painted.tiles),
        remarks.blackened(painted.unsafe, job.seed),
    )
    for remark in filter(None, told):
        say(f"note: {remark}")
    among = f" (a share of {painted.together})" if painted.together > 1 else ""
    call = "step" if len(times.steps) == sum(one.walked for one in job.passes) else "call"
    who = f"seed {job.seed}" if name is None else name
    say(f"{who}{among}, {summary(times, write, call)}; load {painter.load:.2f}")


def policy(name: str) -> Exists:
    """What `--exists` says. Raises UsageError for what it cannot say."""
    from sdfast.naming import Exists
    from sdfast.wording import nearest

    if name not in [*Exists]:
        raise UsageError(f"`--exists` cannot be `{name}`", nearest(name, [*Exists]))
    return Exists(name)


def summary(times: Times, write: float, call: str = "step") -> str:
    """Where a picture's time went, in one line; seconds unless it says ms.

    `call` is what a network call is called, of which some samplers make several a step.
    """
    steps = sorted(1000 * step for step in times.steps)
    least, most = steps[0], steps[-1]
    middle = (steps[(len(steps) - 1) // 2] + steps[len(steps) // 2]) / 2
    walk = f"{len(times.steps)} {call}s {sum(times.steps):.2f}"
    pace = f"({middle:.1f} ms a {call}, {least:.1f} to {most:.1f})"
    whole = times.total + write
    return (
        f"{whole:.2f} s: encode {times.encode:.2f}, {walk} {pace}, "
        f"decode {times.decode:.2f}, write {write:.2f}"
    )
