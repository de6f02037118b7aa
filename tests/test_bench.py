"""The comparison of samplers: what is counted, what is chosen, what is written down."""

import csv
import io
import json
import math
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from PIL import Image

from sdfast import NoiseSchedule, Sampler, load_preset, solve
from sdfast.bench.accuracy import Measured, Row, Score, measured
from sdfast.bench.best import best_of
from sdfast.bench.files import Table
from sdfast.bench.peers import PEERS, peers, scheduler
from sdfast.bench.poses import pose_model, pose_problem
from sdfast.bench.problems import answered, errors, named, noises
from sdfast.bench.rows import CATALOGUE, fitted, ours, row
from sdfast.cli.tables import print_tables
from sdfast.errors import UsageError

SCHEDULE = NoiseSchedule.scaled_linear()
PEER = {one.name: one for one in peers()}
FAILING = ("DPM++2M beta", "LMS", "LMS karras", "UniPC2 bh1")  # want scipy, or find no number
OURS = {one.name: one for one in ours()}


def posed(count=4, training=False):
    *_, problem = pose_problem("uncond", count, training=training)
    return problem


SHORT = ("--accuracy", "fast", "--calls", "4,5", "--problem", "uncond", "-n", "3")


@pytest.mark.parametrize("name", ["uncond", "cfg7.5", "cfg3:2"])
def test_a_problem_says_the_slope_of_its_own_log_density(name):
    problem, ratio = named(name), 0.7
    z = noises(3).requires_grad_()
    leaves = problem._leaves(z, ratio)
    y, precisions = leaves.y, leaves.precisions
    plain = (leaves.log).logsumexp(-1).sum()
    prompted = (leaves.log + problem.prompted).logsumexp(-1).sum()
    assert y.shape[-1] == precisions.shape[-1]
    w = problem.guidance or 0.0
    density = plain + w * (prompted - plain)
    (slope,) = torch.autograd.grad(density, z)
    assert torch.allclose(problem.noise(z, ratio), -ratio * slope)


def test_prompts_pull_towards_different_leaves():
    leaves = [answered(f"cfg7.5:{prompt}", 3, 1) for prompt in range(4)]
    for prompt, (problem, _, answer) in enumerate(leaves):
        assert (problem.leaf(answer.zero) % 4 == prompt).double().mean() > 0.9


def test_a_prompt_unsaid_is_prompt_zero():
    assert torch.equal(named("cfg7.5").prompted, named("cfg7.5:0").prompted)


def test_fewer_noises_are_the_first_of_more():
    assert torch.equal(noises(5), noises(96)[:5])
    assert not torch.equal(noises(5), noises(5, 2))


@pytest.mark.parametrize("name", ["cfg", "cfg7.5:4", "uncond ", "", "cfg100"])
def test_a_problem_unheard_of_is_refused(name):
    with pytest.raises(UsageError):
        named(name)


@pytest.mark.parametrize("name", ["default", "pndm50", "heun:rho2:zero", "heun:rho2:min", "rk45"])
@pytest.mark.parametrize("budget", [6, 7, 12])
def test_calls_are_counted_at_the_network(name, budget):
    found = measured(OURS[name], posed(), budget)
    made = 0

    def network(x, t):
        nonlocal made
        made += 1
        return torch.zeros_like(x)

    sampler = fitted((CATALOGUE.get(name) or load_preset(name).sampler), budget)
    solve(network, noises(1), sampler, SCHEDULE)
    assert found.calls == made <= budget


@pytest.mark.parametrize("name", [n for n in PEERS if n not in FAILING])
def test_no_peer_makes_more_calls_than_it_may(name):
    found = measured(PEER[name], posed(1), 6)
    assert 4 <= found.calls <= 6


def test_every_row_of_the_catalogue_walks():
    problem = posed(1)
    for name in CATALOGUE:
        assert measured(OURS[name], problem, 8).test, name


def test_a_preset_of_explicit_times_walks_at_its_own_number_of_calls_only():
    own = row("mine", Sampler(timesteps=(999, 500, 100)))
    assert measured(own, posed(), 3).test
    other = measured(own, posed(), 4)
    assert other.test is None
    assert other.failure == ""


@pytest.mark.parametrize("keys", [{"solver": "ddpm"}, {"method": "adaptive", "final": "sigma_min"}])
def test_a_sampler_that_cannot_be_compared_says_why(keys):
    found = measured(row("mine", Sampler(**keys)), posed(), 10)
    assert found.test is None
    assert "on its way" in found.failure


def test_a_row_of_ours_is_held_against_the_ode_where_it_ends():
    problem, (_, noise, answer) = posed(), answered("uncond", 4, 1)
    for name, end in (("dpm++2M:karras:zero", "zero"), ("dpm++2M:karras:min", "sigma_min")):
        sampler = CATALOGUE[name].model_copy(update={"steps": 7})
        x = solve(problem.test[0].network, noise, sampler, SCHEDULE)
        z = x if end == "zero" else x / SCHEDULE.end.alpha
        missed = errors(z, getattr(answer, end))
        found = measured(OURS[name], problem, 7).test
        assert found.rms == pytest.approx(missed.square().mean().sqrt().item())
        assert found.median == pytest.approx(missed.median().item())


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("DPM++2M karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("UniPC2", "UniPCMultistepScheduler", {}),
        ("Euler", "EulerDiscreteScheduler", {}),
    ],
)
def test_a_row_of_diffusers_is_a_run_of_its_scheduler(name, kind, settings):
    import diffusers

    said = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    walker = getattr(diffusers, kind)(**said, **settings)
    walker.set_timesteps(10)
    problem, noise, answer = answered("uncond", 4, 1)
    x = noise / SCHEDULE.start.alpha if kind.startswith("Euler") else noise
    for t in walker.timesteps:
        out = problem.network(walker.scale_model_input(x, t).double(), float(t))
        x = walker.step(out, t, x).prev_sample
    missed = errors(x.double(), answer.zero)
    found = measured(PEER[name], posed(), 10)
    assert found.calls == 10
    assert found.test.rms == pytest.approx(missed.square().mean().sqrt().item(), rel=2e-3)


def test_the_reference_weights_end_where_diffusers_ends():
    theirs = measured(PEER["DPM++3M sigma_min"], posed(), 10).test
    mine = measured(OURS["dpm++3M-reference:linspace:min"], posed(), 10).test
    assert mine.rms == pytest.approx(theirs.rms, rel=1e-3)


def test_a_scheduler_gets_the_schedule_it_is_measured_on():
    made = scheduler(PEERS["DDIM shipped"], SCHEDULE)
    for t in (0, 400, 999):
        assert float(made.alphas_cumprod[t]) == pytest.approx(SCHEDULE.at(t).alpha ** 2, rel=1e-4)


def test_numbers_that_are_not_finite_are_a_failure_and_not_a_score():
    found = measured(PEER["UniPC2 bh1"], posed(), 5)
    assert found.test is None
    assert "not finite" in found.failure


def test_what_a_peer_raises_is_its_failure():
    def walk(calls, problem):
        raise RuntimeError("no such\nthing")

    found = measured(Row("bad", "diffusers", "zero", walk), posed(), 5)
    assert found.failure == "no such thing"


def test_a_picture_ends_elsewhere_beyond_half_of_the_way_to_the_next():
    class Model:
        schedule, prediction, guides_itself = SCHEDULE, "epsilon", False

        def complete(self, job):
            return job.model_copy(update={"size": (64, 64), "guidance": 1.0})

        def encode_all(self, prompts, clip_skip=None, guidance=None):
            return [torch.zeros(1) for _ in prompts]

        def noise(self, seed, size, rng):
            return torch.full((1, 1, 2, 2), float(seed))

        def predict(self, x, t, context):
            return torch.zeros_like(x)

    *_, problem = pose_model(Model(), "grey", ["a"], 2, training=False)
    first, second = (case.answer.zero for case in problem.test)
    between = second - first
    assert not problem.elsewhere(first + 0.4 * between, first)
    assert problem.elsewhere(first + 0.6 * between, first)


def test_the_best_are_chosen_on_training_noises_and_judged_on_the_others():
    def cell(family, name, train, test):
        return Measured(
            "p",
            family,
            name,
            "zero",
            5,
            5,
            Score(test, test, 0.0, test),
            Score(train, train, 0.0, train),
        )

    found = [
        cell("sdfast", "lucky", 0.3, 0.1),
        cell("sdfast", "steady", 0.2, 0.2),
        cell("diffusers", "theirs", 0.1, 0.4),
        Measured("p", "diffusers", "broken", "zero", 5, 0, failure="nan"),
    ]
    for best in best_of(found):
        assert (best.ours.row, best.peer.row, best.ratio) == ("steady", "theirs", 0.5)
    assert len(best_of(found)) == 2


def test_ours_alone_have_nobody_to_be_better_than():
    assert best_of([measured(OURS["fast"], posed(training=True), 5)]) == []


def test_a_table_goes_to_stdout_and_nothing_else_anywhere(bench):
    code, out, err = bench(*SHORT)
    assert (code, err) == (0, "")
    assert "uncond: median error" in out
    assert "fast" in out


def test_a_table_has_names_to_the_left_numbers_to_the_right_and_letters_as_they_are(capsys):
    lines = [("[b]", "5"), ("dpm++", "10")]
    print_tables([Table("a [b]title[/b]", ("[i]row", "calls"), lines, left=(0,))] * 2)
    table = "a [b]title[/b]\n[i]row  calls\n[b]         5\ndpm++      10\n\n"
    assert capsys.readouterr() == (table * 2, "")


@pytest.mark.parametrize("others", [(), ("--vs", "diffusers")])
def test_the_row_that_is_fitted_stands_beside_others(bench, tmp_path, others):
    words = ("--accuracy", *SHORT[4:], "--calls", "1", "--export-json", tmp_path / "a", *others)
    assert bench(*words)[0] == 0
    found = json.loads((tmp_path / "a").read_text())["measured"]
    assert ("tuned" in {one["row"] for one in found}) == bool(others)


def test_exports_say_the_same_in_three_ways(bench, tmp_path):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "markdown")}
    flags = [word for kind, path in files.items() for word in (f"--export-{kind}", path)]
    code, *_ = bench(*SHORT, "DPM++2M", "--vs", "diffusers", *flags)
    assert code == 0
    whole = json.loads(files["json"].read_text())
    lines = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert len(whole["measured"]) == len(lines) == 4
    for one, line in zip(whole["measured"], lines, strict=True):
        assert float(line["rms"]) == one["rms"]
        assert (line["row"], int(line["calls"])) == (one["row"], one["calls"])
        assert line["torch"] == whole["circumstances"]["torch"] == version("torch")
    assert whole["problems"]["uncond"]["noises"]["test"] == {"seed": 1, "count": 3}
    assert [b["ratio"] for b in whole["best"] if b["budget"] == 5]
    table = files["markdown"].read_text()
    assert f"| sdfast | fast | min | {whole['measured'][0]['rms']:.4f} |" in table
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files.values()}


def test_a_plot_is_a_png(bench, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    code, *_ = bench(*SHORT, "--plot", path)
    assert code == 0
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500


def test_without_matplotlib_a_plot_is_refused_before_anything_is_measured(
    bench, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = bench(*SHORT, "--plot", tmp_path / "a.png")
    assert (code, out) == (2, "")
    assert err == "error: --plot needs matplotlib\nhint: pip install matplotlib\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--accuracy", "fsat"), "there is no row `fsat`\nhint: did you mean `fast`?"),
        (("--accuracy", "--calls", "5,x"), "--calls takes numbers from 1 to 1000, not `5,x`"),
        (("--accuracy", "-n", "100,5"), "--count takes one number, not `100,5`"),
        (("--accuracy", "-n", "0"), "--count takes numbers from 1 to 100000, not `0`"),
        (("--accuracy", "--problem", "cat"), "there is no problem `cat`"),
        (("--accuracy", "--vs", "comfy"), "--vs cannot be `comfy`\nhint: known is `diffusers`"),
        (("--accuracy", "-g", "3"), "-g/--guidance is for a model"),
        (("--accuracy", "--prompts", "x"), "--prompts is for a model"),
        (("--accuracy", "-m", "tiny", "--prompts", "/no/x"), "there is no file `/no/x`"),
        (("--accuracy", "-m", "tiny", "-g", "-1"), "guidance must be from 0 to 100, not `-1`"),
        (("--accuracy", "--export-csv", "/no/such/x"), "there is no folder `/no/such`"),
        (("--accuracy", "--plot", "x.pdf"), "a plot is a PNG, and `x.pdf` does not end in .png"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_2(bench, words, said):
    code, out, err = bench(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")


def test_a_pattern_picks_its_rows_and_no_others(bench, tmp_path):
    words = ("dpm++2M:rho*:zero", *SHORT[2:], "--export-json", tmp_path / "a.json")
    assert bench("--accuracy", *words)[0] == 0
    found = json.loads((tmp_path / "a.json").read_text())["measured"]
    assert {one["row"] for one in found} == {
        n for n in CATALOGUE if n.startswith("dpm++2M:rho") and n.endswith("zero")
    }


def test_a_model_is_measured_on_prompts(bench, monkeypatch, tmp_path):
    (tmp_path / "prompts").write_text("a cat\n\na red apple\n")
    monkeypatch.setattr(
        "sdfast.bench.poses.CONVERGED",
        CATALOGUE["dpm++3M:logsnr:zero"].model_copy(update={"steps": 9}),
    )
    words = ("fast", "-m", "tiny", "--prompts", tmp_path / "prompts", "--calls", "3")
    code, out, _ = bench("--accuracy", *words, "--export-json", tmp_path / "a")
    assert code == 0
    assert "tiny: median error" in out
    whole = json.loads((tmp_path / "a").read_text())
    assert whole["problems"]["tiny"]["prompts"] == ["a cat", "a red apple"]
    (one,) = whole["measured"]
    assert one["calls"] == 3
    assert 0 < one["rms"] < math.inf


def test_help_wakes_no_torch():
    script = (
        "import sys\nsys.argv = ['sdfast', 'bench', '--help']\nfrom sdfast.cli import run_command\n"
    )
    script += "run_command()\nassert not {'torch', 'rich', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--accuracy" in done.stdout
