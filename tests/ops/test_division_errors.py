"""Is an integer that is divided by zero an error on every machine?"""

from __future__ import annotations

import pytest
import torch

from acalsim_backend import ACALSimBackend
from acalsim_backend.errors import DeviceError


@pytest.mark.parametrize(("machine", "place"), [("unicorn", "cpu"), ("unicorn", "accelerator"), ("native", "auto")])
def test_is_a_division_by_zero_an_error(machine: str, place: str) -> None:
    compiled = torch.compile(torch.remainder, backend=ACALSimBackend(mode="simulate", machine=machine, place=place))
    with pytest.raises(DeviceError, match=r"DIVISION in command 0 \(VECTOR\)"):
        compiled(torch.tensor([4, 5]), torch.tensor([2, 0]))
