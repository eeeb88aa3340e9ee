"""A schedule does not see that steps are taken with a part of its rate."""

import pytest
import torch

from nequip_like.optim.lowered_rate import lowered_rate


def test_a_schedule_that_goes_from_rate_to_rate():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    taken = []
    for factor in (1.0, 0.25, 0.25):
        with lowered_rate(optimizer, factor):
            taken.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        schedule.step()
    assert taken == [0.8, 0.1, 0.05]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_rates_come_back_after_an_error_and_tensors_stay_the_same():
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([{"params": [torch.ones(1)], "lr": rate}, {"params": [torch.ones(1)]}], lr=0.1)

    def fail_within():
        with lowered_rate(optimizer, 0.5):
            assert [float(group["lr"]) for group in optimizer.param_groups] == [0.25, 0.05]
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert optimizer.param_groups[0]["lr"] is rate
    assert (rate.item(), optimizer.param_groups[1]["lr"]) == (0.5, 0.1)
