"""Triton's kernels, compiled for GPUs that need not be there."""

import re
from functools import partial

import pytest
import torch

pytestmark = pytest.mark.triton

TARGETS = {f"sm_{arch}": ("cuda", arch, 32) for arch in (75, 80, 86, 89, 90, 100, 120)}
TARGETS["gfx942"] = ("hip", "gfx942", 64)
"""From Turing to Blackwell, and one of AMD's."""

SHARED = 48 << 10
"""Bytes of shared memory that a program has on every one of them without asking."""


class Driver:
    """A GPU as far as the compiler asks about it; its number keeps what is compiled apart."""

    def __init__(self, target):
        self.number, self.target = list(TARGETS).index(target), TARGETS[target]
        self.utils = self

    def get_device_properties(self, number):
        return {"max_shared_mem": SHARED, "multiprocessor_count": 100, "warpSize": self.target[2]}

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget(*self.target)

    def get_current_device(self):
        return self.number

    def get_current_stream(self, number):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


@pytest.fixture
def compiled(monkeypatch, tmp_path, target):
    """The kernels that are asked for from here on, by name: compiled, and not started."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    driver.set_active(Driver(target))
    asked, run = [], JITFunction.run

    def compile_only(self, *args, warmup, **how):
        kernel = run(self, *args, warmup=True, **how)
        asked.append((self.__name__, kernel))
        return kernel

    monkeypatch.setattr(JITFunction, "run", compile_only)
    return asked


def calls(dtype):
    """Calls of every kernel, of sides that are round and that are not."""
    from sdfast.models.networks import fused

    def some(*shape):
        x = torch.empty(shape, dtype=dtype)
        return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x

    for n, c, side, groups in (
        (2, 320, 64, 32),
        (2, 1280, 16, 32),
        (1, 128, 512, 32),
        (3, 30, 7, 3),
    ):
        of, norm = partial(some, c), partial(fused.group_norm, some(n, c, side, side), groups)
        yield partial(norm, of(), of(), 1e-5)
        yield partial(norm, of(), of(), 1e-5, some(n, c), of(), silu=True)
    for a, b, side, groups in ((640, 320, 64, 32), (1280, 640, 16, 32), (20, 12, 7, 4)):
        both = (some(2, a, side, side), some(1, b, side, side))
        yield partial(fused.group_norm_of_both, *both, groups, some(a + b), some(a + b), 1e-5)
    for c in (48, 320, 1280):
        x, of = some(2, 64, c), partial(some, c)
        yield partial(fused.layer_norm, x, of(), of(), 1e-5)
        yield partial(fused.sum_and_norm, x, x[:1], of(), of(), 1e-5)
        yield partial(fused.sum_and_norm, x, x, of(), of(), 1e-5, of())
        yield partial(fused.gelu_times, *some(2, 64, 2 * c).chunk(2, -1))
    for c in (3, 320):
        picture = some(2, c, 9, 11)
        yield partial(fused.spread, some(2, 4 * c, 6, 8), some(c))
        yield partial(fused.add_, picture, some(c), picture[:1])
        yield partial(fused.add_, picture, some(c), None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_is_compiled_for_every_gpu(compiled, dtype):
    from sdfast.models.networks import fused, group_norm

    for call in calls(dtype):
        call()
    written = {
        name
        for module in (fused, group_norm)
        for name, found in vars(module).items()
        if hasattr(found, "device_caches")
    }
    assert {name for name, _ in compiled} == written - {"_load"}
    assert max(kernel.metadata.shared for _, kernel in compiled) <= SHARED


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_pictures_are_read_and_written_in_the_widest_words(compiled):
    for call in list(calls(torch.float16))[:2]:
        call()
    for name, kernel in compiled:
        if name in ("_look", "_bring"):
            moved = re.findall(r"(?:ld|st)\.global[\w.:]*\.(v4\.b32|v2\.b64)", kernel.asm["ptx"])
            assert moved, name
