import pytest
import torch

from nequip_like.nn.scatter import gather_rows, sum_rows


def test_sum_rows_by_hand():
    rows = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    result = sum_rows(rows, torch.tensor([2, 0, 2]), 4)
    assert result.tolist() == [[2, 20], [0, 0], [5, 50], [0, 0]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows(shape, dtype):
    result = sum_rows(torch.zeros(0, *shape, dtype=dtype), torch.zeros(0, dtype=torch.int64), 3)
    assert result.shape == (3, *shape)
    assert result.dtype == dtype
    assert not result.any()


def test_gather_is_the_transpose_of_sum():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 5, (20,), generator=generator)
    rows = torch.randn(20, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    # <sum(rows), table> = <rows, gather(table)>
    left, right = (sum_rows(rows, index, 5) * table).sum(), (rows * gather_rows(table, index)).sum()
    torch.testing.assert_close(left, right, rtol=1e-13, atol=0)
    assert torch.equal(gather_rows(table, index), table[index])
    assert torch.autograd.gradgradcheck(lambda r: sum_rows(r, index, 5) ** 3, (rows,))
