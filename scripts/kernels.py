"""Where a picture's time goes, kernel by kernel, as torch's profiler sees it.

    scripts/kernels                                    # tiny, on what there is
    scripts/kernels -m random:sd15 --size 512x512      # the true shapes

A table for each of reading a prompt, a guided network call, decoding, and a whole picture of four
steps, of a warm model; what takes longest comes first. On a GPU it is kernels, those of recorded
graphs, too; on a CPU torch's operators.
"""

import argparse
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from sdfast import generate
from sdfast.job import read_job
from sdfast.models import load_model
from sdfast.solver.guidance import joined


def table(do: Callable[[], object], device: torch.device, calls: int, rows: int) -> str:
    """What some calls come to, each kind of kernel or operator in a row."""
    for _ in range(4):  # recordings are made meanwhile
        do()
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    with profile(activities=activities) as watched:
        for _ in range(calls):
            do()
        if on_gpu:
            torch.cuda.synchronize(device)
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return watched.key_averages().table(sort_by=by, row_limit=rows, max_name_column_width=90)


def main() -> None:
    """See the module."""
    says = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    says.add_argument("-m", "--model", default="tiny")
    says.add_argument("--size", help="of the picture, as 512x512; the model's own without")
    says.add_argument("--device", default="auto")
    says.add_argument("--dtype", default="auto")
    says.add_argument("--calls", type=int, default=3, help="each thing is done so often")
    says.add_argument("--rows", type=int, default=30, help="lines of a table")
    asked = says.parse_args()
    model = load_model(asked.model, device=asked.device, dtype=asked.dtype)
    keys = {"prompt": "a cat", "steps": 4, **({"size": asked.size} if asked.size else {})}
    job = model.complete(read_job(keys))
    guided = joined([model.encode(""), model.encode("a cat")])
    x = model.noise(1, job.size)
    parts: dict[str, Callable[[], object]] = {
        "a prompt": lambda: model.encode("a cat"),
        "a guided call": lambda: model.predict(x, 500.0, guided),
        "decoding": lambda: model.decode(x),
        "a picture of four steps": lambda: list(generate(model, job)),
    }
    for name, do in parts.items():
        print(f"{name}, {asked.calls} times: {model.name}, {model.dtype_name}, {model.device}")
        print(table(do, model.device, asked.calls, asked.rows))


if __name__ == "__main__":
    main()
