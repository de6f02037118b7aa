"""Runs a batch again and again, each time killed at a random moment, and at last to its end.

Imports are done once and each run is a fork. A kill waits for the manifest to tell of a random
number of pictures in this run, and then for a random part of the time that the next one takes; of
none, for a part of the time from the beginning to the first. So kills fall upon everything a batch
does, however fast the machine. Prints what they fell upon, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from sdfast.cli import run_command
from sdfast.models import load_model

MOST = 6
"""Pictures between two kills."""


def begin(words: list[str]) -> int:
    child = os.fork()
    if child == 0:
        sys.argv = ["sdfast", "batch", *words]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(run_command())
    return child


def painted(folder: Path) -> int:
    """Of how many pictures the manifest tells."""
    try:
        return (folder / "sdfast.jsonl").read_bytes().count(b'"done"')
    except FileNotFoundError:
        return 0


def main(seed: int, kills: int, folder: Path, words: list[str]) -> None:
    load_model("tiny")  # imports everything that painting needs
    moments = random.Random(seed)
    starting, painting = 1.0, 0.1
    seen = Counter[str](kills=0, ended=0)
    while seen["kills"] < kills:
        wanted, before = moments.randint(0, MOST), painted(folder)
        child, begun = begin(words), time.monotonic()
        while (now := painted(folder) - before) < wanted and not os.waitpid(child, os.WNOHANG)[0]:
            if now == 1 and wanted > 1:
                starting = time.monotonic() - begun
            time.sleep(0.001)
        if now < wanted:
            break
        if wanted > 1:
            painting = (time.monotonic() - begun - starting) / (wanted - 1)
        time.sleep(moments.uniform(0, painting if wanted else starting))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen["kills"] += 1
        seen["in painting"] += wanted > 0
        seen["left a draft"] += any(folder.glob(".*.tmp"))
    _, status = os.waitpid(begin(words), 0)
    print(json.dumps(seen | Counter(ended=status == 0)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
