"""What leaves its range by far, and what does not."""

import math
import random

import pytest

from nequip_like.errors import ConfigError
from nequip_like.training.recovery.divergence import BLOCK, DivergenceSettings, DivergenceWatch


def feed(watch, losses, norm=1.0):
    """Steps at which something rose, and what was said."""
    said = [watch.see_step(loss, norm) for loss in losses]
    return {number: text for number, text in enumerate(said) if text is not None}


def scatter(count, level=1.0, decades=0.5, seed=0):
    generator = random.Random(seed)
    return [level * 10 ** generator.uniform(-decades, decades) for _ in range(count)]


def test_a_jump_is_seen_at_the_end_of_its_block():
    watch = DivergenceWatch()
    assert feed(watch, [0.01] * 205) == {}
    said = feed(watch, [3.0] * 5 + [1e6] * 10)
    # Of the ten steps from the 201st on, five are at 0.01 and five at 3: their median is 1.505.
    assert said == {
        4: "the loss rose from 0.01 to 1.5 (median of 10 steps)",
        14: "the loss rose from 0.01 to 1e+06 (median of 10 steps)",
    }


def test_gradient_norms():
    watch = DivergenceWatch()
    assert feed(watch, [1.0] * 60, norm=2.0) == {}
    assert feed(watch, [1.0] * 10, norm=30.0) == {9: "the gradient norm rose from 2 to 30 (median of 10 steps)"}
    assert feed(watch, [1.0] * 10, norm=0.0) == {}  # it is not known


@pytest.mark.parametrize(
    "losses",
    [
        [10.0 ** (-step / 50) for step in range(300)],  # falls by six decades
        [1.0, *scatter(40, level=30.0), *scatter(200)],  # the first steps of a high rate
        [value * (1e5 if step % 7 == 3 else 1.0) for step, value in enumerate(scatter(300))],  # one frame in seven
        [0.01 * 4.0 ** (step // 200) for step in range(1000)],  # weights of a loss that rise
        scatter(600, decades=3.0),  # single frames, some at rest and some not
    ],
    ids=["falling", "early", "outliers", "ramp", "mixed"],
)
def test_no_alarm(losses):
    assert feed(DivergenceWatch(), losses) == {}


def test_early_steps_are_judged_by_the_first():
    watch = DivergenceWatch()
    assert list(feed(watch, [1.0, *[150.0] * 9])) == [9]
    watch = DivergenceWatch()
    assert feed(watch, [1.0, *[90.0] * 9]) == {}


def test_good_moments():
    watch = DivergenceWatch()
    assert watch.calm
    feed(watch, [1.0] * 50)
    assert watch.calm
    feed(watch, [1.0, 3.0, 3.0])  # within a block
    assert not watch.calm
    feed(watch, [1.0] * 7)
    assert watch.calm
    watch.see_validation(1.0)
    watch.see_validation(2.1)
    assert not watch.calm
    watch.see_validation(1.9)
    assert watch.calm


def test_validations():
    """Far above the best three times in a row, while losses rose, too."""
    watch = DivergenceWatch()
    feed(watch, [1.0] * 100)
    assert [watch.see_validation(value) for value in (2.0, 1.0, 3.1, 3.1, 3.1)] == [None] * 5
    feed(watch, [3.0] * 200)
    assert [watch.see_validation(value) for value in (2.9, math.nan, 3.1)] == [None] * 3
    assert watch.see_validation(4.0) == "the validation error rose from 1 to 4"


def test_range_of_weights_that_come_back():
    watch = DivergenceWatch()
    feed(watch, [1.0] * 100)
    kept = watch.get_range()
    feed(watch, [4.0] * 55)
    watch.set_range(kept)
    assert feed(watch, [6.0] * BLOCK) == {9: "the loss rose from 1 to 6 (median of 10 steps)"}
    watch.forget()
    assert feed(watch, [6.0] * 100) == {}


def test_goes_on_from_a_checkpoint():
    one, two = DivergenceWatch(), DivergenceWatch()
    losses = scatter(205)
    feed(one, losses[:103])
    one.see_validation(0.5)
    two.load_state_dict(one.state_dict())
    assert feed(one, losses[103:]) == feed(two, losses[103:])
    assert one.state_dict() == two.state_dict()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"^on_divergence is null\n  -> give rollback, warn or ignore, or a mapping"),
        ("rolback", r"^on_divergence is 'rolback'\n  -> did you mean 'rollback'"),
        ({"action": "stop"}, r"^on_divergence\.action is 'stop'"),
        ({"max_rollback": 3}, r"unknown key 'max_rollback'\n  -> did you mean 'max_rollbacks'"),
        ({"max_rollbacks": 0}, r"^on_divergence\.max_rollbacks is 0\n  -> give a whole number, 1 or more"),
        ({"rate_factor": 1.0}, r"^on_divergence\.rate_factor is 1\.0\n  -> give a number, above 0 and below 1"),
    ],
)
def test_mistakes(config, message):
    with pytest.raises(ConfigError, match=message):
        DivergenceSettings.of(config)
