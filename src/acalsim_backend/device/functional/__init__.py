"""What commands compute: two providers behind one protocol, both on guest memory itself.

``torch`` runs PyTorch's kernels on zero-copy views of RAM; ``native`` runs the firmware's kernels from the host
library. Neither knows more of a command than its bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from acalsim_backend.device.functional.task import Functional
from acalsim_backend.device.memory import Memory
from acalsim_backend.errors import UnknownNameError


def _torch(memory: Memory) -> Functional:
    from acalsim_backend.device.functional.torch import TorchFunctional

    return TorchFunctional(memory)


def _native(memory: Memory) -> Functional:
    from acalsim_backend.device.functional.native import NativeFunctional

    return NativeFunctional(memory)


PROVIDERS: dict[str, Callable[[Memory], Functional]] = {"torch": _torch, "native": _native}


def create_functional(name: str | None, memory: Memory) -> Functional:
    """The provider called ``name``; by default torch where it is installed, else native.

    Raises:
        UnknownNameError: there is no such provider.
    """
    if name is None:
        name = "torch" if importlib.util.find_spec("torch") else "native"
    if name not in PROVIDERS:
        raise UnknownNameError("functional model", name, PROVIDERS)
    return PROVIDERS[name](memory)
