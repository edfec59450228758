"""Is an index out of range the same error on every machine, and does it name the operation?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend import ACALSimBackend
from acalsim_backend.errors import IndexOutOfRangeError

MACHINES = [("unicorn", "cpu"), ("unicorn", "accelerator"), ("native", "auto")]
CALLS: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...], str]] = {
    "embedding": (lambda i, w: F.embedding(i, w), (torch.tensor([[1, 9], [10, 12]]), torch.rand(10, 3)),
                  r"index 10 is out of range in command 0 \(GATHER\): .*EMBEDDING.*expected 0 to 9$"),
    "index": (lambda x, i: x[:, i], (torch.rand(2, 4), torch.tensor([0, -5, 7])),
              r"index -5 is out of range in command 0 \(GATHER\): .*INDEX.*expected -4 to 3$"),
    "two indices": (lambda x, i, j: x[i, j], (torch.rand(2, 4), torch.tensor([1, 1]), torch.tensor([3, 4])),
                    r"index 4 is out of range.*expected -2 to 1 or -4 to 3, by its axis$"),
    "gather": (lambda x, i: x.gather(1, i), (torch.rand(2, 4), torch.tensor([[0], [-1]])),
               r"index -1 is out of range.*expected 0 to 3$"),
    "scatter": (lambda x, i: x.scatter(0, i, 1.0), (torch.rand(2, 4), torch.tensor([[1 << 40]])),
                r"index 1099511627776 is out of range.*\(SCATTER\).*expected 0 to 1$"),
}  # fmt: skip


@pytest.mark.parametrize(("machine", "place"), MACHINES)
@pytest.mark.parametrize("call", CALLS)
def test_is_the_index_named(call: str, machine: str, place: str) -> None:
    function, arguments, text = CALLS[call]
    compiled = torch.compile(function, backend=ACALSimBackend(mode="simulate", machine=machine, place=place))
    with pytest.raises(IndexOutOfRangeError, match=text):
        compiled(*arguments)


def test_is_it_pythons_index_error_as_well() -> None:
    assert issubclass(IndexOutOfRangeError, IndexError)
