"""Where finished pictures go, and what is said about them."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdfast.events import Finished, Times
    from sdfast.job import Job
    from sdfast.models.stable_diffusion import StableDiffusion
    from sdfast.naming import Exists


@dataclass(frozen=True, slots=True)
class Output:
    """What was said about the pictures: where, how, and to whom to talk about it."""

    out: str | None
    preset: str
    exists: Exists
    metadata: bool
    as_json: bool
    say: Callable[[str], None]
    count: int

    @property
    def to_stdout(self) -> bool:
        return self.out == "-"

    def check(self) -> None:
        """Raise UsageError for what can be seen to go wrong before anything is painted."""
        from sdfast.errors import UsageError

        if self.to_stdout and (self.count > 1 or self.as_json or sys.stdout.isatty()):
            raise UsageError(
                "`-o -` writes one picture into a pipe or a file",
                'sdfast gen "a cat" -o - > cat.png',
            )

    def place(self, job: Job, index: int) -> Path | None:
        """Where the job's picture goes; None if it is there already and shall be kept.

        Makes the folder, so that one that cannot be written is found out before the painting.
        """
        from sdfast.naming import destination, fields, settle, unwritable

        if self.to_stdout:
            return Path("-")
        assert job.size is not None
        words = fields(
            job, size=job.size, now=datetime.now(), preset=self.preset, i=index, n=self.count
        )
        wanted = destination(self.out, words)
        free = settle(wanted, self.exists)
        if free is None:
            self.say(f"kept {wanted}, which is there already")
            print(wanted, flush=True)
            return None
        try:
            free.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(free.parent, error) from error
        return wanted

    def write(self, painted: Finished, place: Path, load: float, model: StableDiffusion) -> None:
        """Write the picture, tell its path on stdout and where the time went on stderr."""
        from sdfast import __version__, png

        job = painted.job
        assert job.size is not None
        if painted.decoded_again:
            self.say("note: half precision overflowed; the picture was decoded again in float32")
        text = {}
        if self.metadata:
            text = png.recipe(job, version=__version__, model=job.model, size=job.size)
        begun = time.perf_counter()
        if self.to_stdout:
            sys.stdout.buffer.write(png.encode(painted.image, text))
            sys.stdout.flush()
            return
        path = png.save(painted.image, place, text=text, exists=self.exists)
        write = time.perf_counter() - begun
        if path is None:  # another process painted it meanwhile
            path = place
        times = painted.times
        if self.as_json:
            line = {
                "path": str(path),
                **job.record,
                "device": str(model.device),
                "dtype": model.dtype_name,
                "seconds": round(times.total + write, 6),
                "load_s": round(load, 6),
                "encode_s": round(times.encode, 6),
                "steps_ms": [round(1000 * s, 3) for s in times.steps],
                "decode_s": round(times.decode, 6),
                "write_s": round(write, 6),
            }
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(path, flush=True)
        self.say(f"seed {job.seed}, {summary(times, write)}; load {load:.2f}")


def policy(name: str) -> Exists:
    """What `--exists` says. Raises UsageError for what it cannot say."""
    from sdfast.errors import UsageError
    from sdfast.naming import Exists
    from sdfast.wording import nearest

    if name not in [*Exists]:
        raise UsageError(f"`--exists` cannot be `{name}`", nearest(name, [*Exists]))
    return Exists(name)


def summary(times: Times, write: float) -> str:
    """Where a picture's time went, in one line; seconds unless it says ms."""
    median, least, most = (f(times.steps) * 1000 for f in (statistics.median, min, max))
    walk = f"{len(times.steps)} steps {sum(times.steps):.2f}"
    pace = f"({median:.1f} ms a step, {least:.1f} to {most:.1f})"
    whole = times.total + write
    return (
        f"{whole:.2f} s: encode {times.encode:.2f}, {walk} {pace}, "
        f"decode {times.decode:.2f}, write {write:.2f}"
    )
