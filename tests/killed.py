"""Runs a command again and again, each time killed at a random moment, and at last to its end.

The command's imports are done once, and each run is a fork, so fifty runs take a minute.
Prints how many runs were killed before they came to their end by themselves.
"""

import os
import random
import signal
import sys
import time

from sdfast.cli import run_command


def begin(words: list[str]) -> int:
    child = os.fork()
    if child == 0:
        sys.argv = ["sdfast", *words]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(run_command())
    return child


def main(seed: int, kills: int, longest: float, words: list[str]) -> None:
    moments = random.Random(seed)
    killed = 0
    while True:
        child = begin(words)
        end = time.monotonic() + moments.uniform(0, longest)
        while killed < kills and time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                print(killed)
                return
            time.sleep(0.001)
        if killed == kills:
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            print(killed)
            return
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
