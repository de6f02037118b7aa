"""One step against exact answers: Gaussian images, polynomials, and its own order."""

import math

import numpy as np
import pytest

from sdfast.solver.predict import Target
from sdfast.solver.schedule import CLEAN, Node
from sdfast.solver.step import Mixture, mixture, view

SPREAD = 0.5
"""Images drawn from N(0, SPREAD**2): the one case whose path is known in closed form."""

either_target = pytest.mark.parametrize("target", list(Target))


def node_at(lam):
    alpha = 1 / math.sqrt(1 + math.exp(-2 * lam))
    return Node(t=0.0, alpha=alpha, sigma=alpha * math.exp(-lam))


def width(node):
    """Where the path that starts at one standard deviation stands: always at one."""
    return math.hypot(node.alpha * SPREAD, node.sigma)


def estimate(node, target):
    """What a perfect network says there."""
    share = node.alpha * SPREAD**2 if target is Target.IMAGE else node.sigma
    return share / width(node)


def error(here, known, there, target, **how):
    carry, weights, _ = mixture(here, known, there, target, **how)
    said = [estimate(node, target) for node in known]
    return abs(carry * width(here) + np.dot(weights, said) - width(there))


def past(order, h):
    """The newest `order` nodes, at uneven distances of about h."""
    return [node_at(-0.7 - i * h * (1 + 0.3 * i)) for i in reversed(range(order))]


def slope(error_of):
    """By which power of h the error falls."""
    wide, narrow = (error_of(h) for h in (0.02, 0.01))
    return math.log2(wide / narrow)


@either_target
@pytest.mark.parametrize("order", [1, 2, 3])
def test_one_step_from_an_exact_past_errs_by_the_next_power(order, target):
    def miss(h):
        known = past(order, h)
        return error(known[-1], known, node_at(-0.7 + h), target)

    assert slope(miss) == pytest.approx(order + 1, abs=0.1)


@either_target
@pytest.mark.parametrize("order", [1, 2, 3])
def test_asking_also_where_the_step_arrives_gains_one_power(order, target):
    def miss(h):
        known, there = past(order, h), node_at(-0.7 + h)
        return error(known[-1], [*known, there], there, target)

    assert slope(miss) == pytest.approx(order + 2, abs=0.2)


@either_target
@pytest.mark.parametrize("order", [2, 3])
def test_asking_inside_the_step_does_as_well_as_behind_it(order, target):
    def miss(h):
        here, *inside = known = [node_at(-0.7 + i * h / order) for i in range(order)]
        assert len(inside) == order - 1
        return error(here, known, node_at(-0.7 + h), target)

    assert slope(miss) == pytest.approx(order + 1, abs=0.2)


@either_target
def test_reference_weights_at_three_estimates_are_of_second_order_only(target):
    def miss(h):
        known = past(3, h)
        return error(known[-1], known, node_at(-0.7 + h), target, reference=True)

    assert slope(miss) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("order", [1, 2])
def test_reference_weights_differ_at_three_estimates_only(order):
    step = past(order, 0.3)[-1], past(order, 0.3), node_at(0.2), Target.IMAGE
    assert mixture(*step, reference=True) == mixture(*step)


@either_target
@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_three_estimates_integrate_polynomials_exactly(power, h, target):
    turn = 1 if target is Target.IMAGE else -1
    here, there = node_at(-0.7), node_at(-0.7 + h)
    known = [node_at(-0.7 + offset * h) for offset in (-1.7, -0.6, 0)]
    carry, weights, _ = mixture(here, known, there, target)
    a, b = view(here, target), view(there, target)

    got = np.dot(weights, [(view(node, target).u - a.u) ** power for node in known])
    # the antiderivatives of exp(u - h), u exp(u - h) and u**2 exp(u - h), from 0 to turn * h
    end = turn * h
    wanted = [
        -math.expm1(-end),
        end + math.expm1(-end),
        end**2 - 2 * end - 2 * math.expm1(-end),
    ][power]
    # the closed form cancels, by up to the third power of h
    rounding = 1e-15 * max(1, abs(end)) ** 2 * math.exp(abs(end))
    assert got == pytest.approx(b.own * wanted, rel=1e-12, abs=rounding)
    assert carry == pytest.approx(b.other / a.other, rel=1e-15)


@either_target
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_network_that_always_says_the_same_is_followed_exactly(order, target):
    known, there = past(order, 0.4), node_at(0.9)
    carry, weights, _ = mixture(known[-1], known, there, target)
    a, b = view(known[-1], target), view(there, target)
    assert carry * a.own + sum(weights) == pytest.approx(b.own, rel=1e-13)


def test_first_order_is_ddim():
    here, there = node_at(-0.7), node_at(-0.2)
    carry, (weight,), _ = mixture(here, [here], there, Target.NOISE)
    x, noise = 0.3, -1.1
    image = (x - here.sigma * noise) / here.alpha
    ddim = there.alpha * image + there.sigma * noise
    assert carry * x + weight * noise == pytest.approx(ddim, rel=1e-13)


@pytest.mark.parametrize("there", [node_at(-0.2), node_at(4.0), CLEAN], ids=["near", "far", "zero"])
def test_first_order_is_the_same_for_both_targets(there):
    here = node_at(-0.7)
    x, noise = 0.3, -1.1
    said = {Target.NOISE: noise, Target.IMAGE: (x - here.sigma * noise) / here.alpha}
    ends = []
    for target in Target:
        carry, (weight,), _ = mixture(here, [here], there, target)
        ends.append(carry * x + weight * said[target])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_the_step_to_no_noise_is_the_image_the_network_sees():
    here = node_at(1.5)
    assert mixture(here, [here], CLEAN, Target.IMAGE) == Mixture(0.0, (1.0,))
