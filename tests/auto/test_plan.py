"""How the time is divided."""

from nequip_like.auto.plan import divide_time


def test_a_short_time_goes_into_the_training() -> None:
    plan = divide_time(200.0, rates=3, models=3)
    assert (plan.rates, plan.models, plan.half_data, plan.seconds) == (0, 0, False, 0.0)


def test_rates_come_before_models() -> None:
    plan = divide_time(400.0, rates=3, models=3)
    assert (plan.rates, plan.models, plan.half_data) == (3, 0, False)
    assert plan.seconds == 60.0


def test_a_long_time() -> None:
    plan = divide_time(1200.0, rates=3, models=3)
    assert (plan.rates, plan.models, plan.half_data) == (3, 3, True)
    assert plan.seconds == 3 * 30.0 + 4 * 60.0


def test_one_of_a_kind_needs_no_trial() -> None:
    plan = divide_time(1200.0, rates=1, models=1)
    assert (plan.rates, plan.models, plan.seconds) == (0, 0, 60.0)


def test_trials_that_would_say_nothing() -> None:
    plan = divide_time(1200.0, rates=3, models=3, least=40.0)
    assert (plan.rates, plan.models, plan.half_data) == (0, 3, True)
    assert divide_time(1200.0, rates=3, models=3, least=61.0).seconds == 0.0
