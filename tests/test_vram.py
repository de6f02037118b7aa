"""Networks that visit their device. Here the device is the processor, and a visit still a copy."""

import logging
import os
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from small import write_checked_model, write_model, write_xl_model
from torch._inductor import config as inductor
from torch._inductor.runtime import compile_tasks

from sdfast import generate
from sdfast.errors import UsageError
from sdfast.events import Finished
from sdfast.job import read_job
from sdfast.models import load_model, stable_diffusion, vram
from sdfast.models.compiled import check_compiles, compiled, set_up_compiler
from sdfast.models.find import find
from sdfast.models.networks import Config, UNet, randomize
from sdfast.models.parts import bare, weigh
from sdfast.models.vram import Stage, fitting, pick_vram

CPU = torch.device("cpu")
CHOICES = "torch._inductor.select_algorithm"


@pytest.fixture(params=[write_model, write_xl_model], ids=["1.x", "XL"])
def folder(request, tmp_path):
    return request.param(tmp_path)


def picture(model):
    job = read_job({"prompt": "a cat", "seed": 1, "steps": 3})
    return next(e.image for e in generate(model, job) if isinstance(e, Finished))


def weights(network):
    return {name: weight.data_ptr() for name, weight in network.named_parameters()}


@pytest.mark.parametrize("way", ["offload", "min"])
def test_pictures_are_the_same_wherever_the_weights_live(folder, way, monkeypatch):
    plain = picture(load_model(str(folder), device="cpu"))
    monkeypatch.setattr(stable_diffusion, "pick_vram", lambda *_: way)
    monkeypatch.setattr(vram, "_LARGE", 1024)
    visiting = load_model(str(folder), device="cpu")
    for _ in range(2):
        both = zip(plain.tobytes(), picture(visiting).tobytes(), strict=True)
        assert max(abs(a - b) for a, b in both) <= 1  # oneDNN's layouts sum in another order


def unet(folder):
    network = UNet(Config(find(str(folder)).config("unet")))
    randomize(network, CPU, torch.float32, lay_out=False)
    return network


def told(network, xl):
    words = torch.ones(2, 5, network.context_dim)
    return (
        network.condition(words, torch.ones(2, 20), [8.0] * 6) if xl else network.condition(words)
    )


def test_one_network_at_a_time_is_there(folder):
    stage, first, second = Stage(CPU), unet(folder), unet(folder)
    stage.add(first)
    stage.add(second)
    at_home = weights(first), weights(second)
    stage.call(first)
    assert not set(weights(first).values()) & set(at_home[0].values())
    assert weights(second) == at_home[1]
    on_the_device = weights(first)
    stage.call(first)
    assert weights(first) == on_the_device
    stage.call(second)
    assert weights(first) == at_home[0]
    assert weights(second) != at_home[1]
    stage.call(None)
    assert (weights(first), weights(second)) == at_home


def test_large_weights_visit_for_one_call_and_the_one_before_leaves(folder, monkeypatch):
    monkeypatch.setattr(vram, "_LARGE", 1024)
    stage, network, before = Stage(CPU), unet(folder), unet(folder)
    words = told(network, network.takes_size)
    x = torch.randn(2, network.in_channels, 8, 8)
    t = network.embed_time(torch.tensor([500.0]), words)
    plain = network(x, t, words)
    stage.add(before)
    stage.stream(network)
    settled, at_home = weights(network), weights(before)
    seen = []
    network.conv_in.register_forward_hook(
        lambda m, *_: seen.append(m.weight.data_ptr()), prepend=True
    )
    stage.call(before)
    stage.call(network)
    assert weights(before) == at_home
    torch.testing.assert_close(network(x, t, words), plain)
    assert seen != [settled["conv_in.weight"]]
    assert weights(network) == settled


def test_the_quickest_way_that_fits_is_taken():
    networks = [6, 1, 1]
    assert [fitting(networks, free) for free in (11, 10, 8, 7, 0)] == [
        "full",
        "offload",
        "offload",
        "min",
        "min",
    ]


@pytest.mark.parametrize("asked", [True, False])
def test_a_safety_checker_weighs_what_it_is_if_it_is_asked(tmp_path, asked, monkeypatch):
    folder, told = write_checked_model(tmp_path / "m"), []
    monkeypatch.setattr(
        stable_diffusion, "pick_vram", lambda *args: told.append(args[2]()) or "full"
    )
    model = load_model(str(folder), device="cpu", safety=asked)
    checker = model._checker._network.parameters() if asked else ()
    (weights,) = told
    assert weights[-1] == 4 * sum(p.numel() for p in checker)


def test_a_broken_checker_is_told_as_it_is_loaded_and_not_as_it_is_weighed(tmp_path):
    folder = write_checked_model(tmp_path / "m")
    source = find(str(folder))
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"broken")
    assert weigh(source, bare(source), torch.float16)[-1] == 0


def test_there_is_no_second_memory_off_cuda():
    assert pick_vram("auto", CPU, list) == pick_vram("full", CPU, list) == "full"
    for way in ("offload", "min"):
        with pytest.raises(UsageError, match="for CUDA; this is cpu"):
            pick_vram(way, CPU, list)
    with pytest.raises(UsageError, match="no --vram `ful`") as caught:
        pick_vram("ful", CPU, list)
    assert "`full`" in caught.value.hint


@pytest.mark.parametrize(
    "write", [write_model, pytest.param(write_xl_model, marks=pytest.mark.slow)]
)
def test_the_unet_compiles_as_one_program_with_products_joined_as_on_a_gpu(
    tmp_path, write, monkeypatch
):
    network = unet(write(tmp_path))
    monkeypatch.setattr("sdfast.models.networks.unet.joins", lambda network: True)
    network.lay_out()
    words = told(network, network.takes_size)
    program = compiled(network, backend="eager")
    t = network.embed_time(torch.tensor([500.0]), words)
    for rows in (1, 2):
        x = torch.randn(rows, network.in_channels, 8, 8)
        torch.testing.assert_close(program(x, t, words), network(x, t, words))


class Doubler(torch.nn.Module):
    """Asked as a UNet is, and traced in no time."""

    def forward(self, x, time, told):
        return 2 * x


def test_a_network_is_compiled_for_more_shapes_than_torch_would_by_itself():
    program = compiled(Doubler(), backend="eager")
    for side in range(1, 40):
        assert program(torch.ones(1, side), torch.tensor([500.0]), None).shape == (1, side)


def test_compiling_is_refused_where_it_does_not_pay_or_cannot_be():
    with pytest.raises(UsageError, match="--compile is for CUDA"):
        check_compiles(CPU, "full")
    with pytest.raises(UsageError, match="does not go with --vram min"):
        check_compiles(torch.device("cuda"), "min")


@pytest.fixture
def untouched(monkeypatch):
    """What the compiler's settings are is put back."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for variable in ("PTXAS_PATH", "AUTOTUNE_NUM_CHOICES_DISPLAYED"):
        os.environ.pop(f"TRITON_{variable}", None)
        os.environ.pop(f"TORCHINDUCTOR_{variable}", None)
    monkeypatch.setattr(logging.getLogger(CHOICES), "filters", [])
    monkeypatch.setitem(sys.modules, "triton", None)
    shown = {"autotune_num_choices_displayed": 10, "max_autotune_report_choices_stats": True}
    with inductor.patch({name: value for name, value in shown.items() if hasattr(inductor, name)}):
        yield


@pytest.mark.usefixtures("untouched")
def test_the_compilers_processes_assemble_as_this_one_does(monkeypatch):
    own = "/where/tritons/own/is/bin/ptxas"
    knobs = SimpleNamespace(nvidia=SimpleNamespace(ptxas=SimpleNamespace(path=own)))
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(knobs=knobs))
    set_up_compiler()
    assert os.environ["TRITON_PTXAS_PATH"] == own


@pytest.mark.usefixtures("untouched")
def test_where_triton_does_not_say_both_assemble_with_torchs(monkeypatch):
    own = "/where/torchs/own/is/bin/ptxas"
    choose = partial(os.environ.setdefault, "TRITON_PTXAS_PATH", own)
    monkeypatch.setattr(compile_tasks, "_set_triton_ptxas_path", choose)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    set_up_compiler()
    assert os.environ["TRITON_PTXAS_PATH"] == own


@pytest.mark.usefixtures("untouched")
def test_the_compiler_keeps_its_trials_to_itself_and_tells_what_is_wrong(caplog):
    set_up_compiler()
    assert inductor.autotune_num_choices_displayed == 0
    assert not getattr(inductor, "max_autotune_report_choices_stats", False)
    log = logging.getLogger(CHOICES)
    log.error(
        "Runtime error during autotuning: \n%s", "out of resource: triton_mm Required: 262144"
    )
    log.error("Runtime error during autotuning: \n%s", "an illegal memory access")
    assert [record.args for record in caplog.records] == [("an illegal memory access",)]


@pytest.mark.usefixtures("untouched")
def test_who_wants_to_see_the_trials_does():
    os.environ["TORCHINDUCTOR_AUTOTUNE_NUM_CHOICES_DISPLAYED"] = "10"
    set_up_compiler()
    assert inductor.autotune_num_choices_displayed == 10
