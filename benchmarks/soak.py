"""Is everything given back? 1,000 simulated calls, then 200 models compiled, run and dropped, with memory on the way.

Prints resident memory (MiB), sessions that are open and Programs in memory every so many steps. PyTorch's compiler
keeps some of its own for each compilation; the peer is the same number of compilations with its backend "aot_eager".
``python benchmarks/soak.py [CALLS] [MODELS]``
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch
from torch import nn
from torch._C._dynamo.eval_frame import reset_code

from acalsim_backend import ACALSimBackend, simulate
from acalsim_backend.api import _with_own_code
from acalsim_backend.run.session import open_sessions

EVERY = 100


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def show(what: str, step: int, backend: ACALSimBackend | None = None) -> None:
    gc.collect()  # what PyTorch compiled is full of cycles
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back to the system, where resident memory is counted
    kept = f", {len(backend.programs)} Programs" if backend is not None else ""
    print(
        f"{what} {step:5}: {resident_mib():7.1f} MiB resident, {len(open_sessions())} sessions open{kept}", flush=True
    )


def model(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 8))


def main() -> None:
    calls, models = (int(a) for a in (*sys.argv[1:], *("1000", "200")[len(sys.argv) - 1 :]))
    torch.set_num_threads(1)
    x = torch.randn(4, 32)
    network = model(64)
    for step in range(calls + 1):
        if step % EVERY == 0:
            show("simulate", step)
        if step < calls:
            simulate(network, x)
    for step in range(calls + 1):
        if step % EVERY == 0:
            show("aot_eager", step)
        if step < calls:
            function = _with_own_code(network)
            with torch.no_grad():
                torch.compile(function, backend="aot_eager", dynamic=False)(x)
            reset_code(function.__code__)
    backend = ACALSimBackend(mode="simulate")
    with torch.no_grad():
        for step in range(models + 1):
            if step % (EVERY // 4) == 0:
                show("models", step, backend)
            if step == models:
                break
            torch.compile(model(64 + step), backend=backend, dynamic=False)(x)
            torch._dynamo.reset()
            gc.collect()


if __name__ == "__main__":
    main()
