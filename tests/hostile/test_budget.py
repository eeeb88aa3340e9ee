from tests.hostile.mutations import BUDGET


def test_all_parsers_together_get_two_thousand_inputs():
    assert sum(BUDGET.values()) >= 2000
