"""What do the catalogue's models cost at full size? One process and one thread each; processor seconds, medians.

Eager and simulated calls alternate, so that both see the same noise. The first call has three parts: capture
(Dynamo and AOTAutograd), lowering (IR, passes, commands) and the first run, which also loads the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from acalsim_backend.models import CATALOGUE

MIB = 1 << 20
BASIC = ("matmul", "mlp", "attention")
COLUMNS = (  # title, key, width, format
    ("eager", "eager", 8, ".3f"),
    ("capture", "capture", 9, ".2f"),
    ("lower", "lower", 8, ".2f"),
    ("1st run", "first_run", 9, ".2f"),
    ("steady", "steady", 8, ".3f"),
    ("ratio", "ratio", 7, ".2f"),
    ("weights", "weights_mib", 9, ".0f"),
    ("peak", "peak_mib", 7, ".0f"),
    ("commands", "commands", 10, ""),
    ("host", "host", 6, ""),
    ("graphs", "graphs", 8, ""),
    ("error", "error", 9, ".1e"),
)


def cpu(call: Callable[[], object]) -> float:
    """Processor seconds of ``call``, all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(name: str, hardware: str, repeat: int, dtype: str) -> dict[str, object]:
    """The row of one model; sizes in MiB, ``error`` relative to each output's largest value."""
    time.perf_counter = time.process_time  # so that the parts in a report are processor time as well
    import torch
    from torch.utils import _pytree as pytree

    from acalsim_backend import ACALSimBackend, HardwareConfig
    from acalsim_backend.models import load_target

    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    model, inputs = load_target(name)
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    weights = sum(t.nbytes for t in tensors.values()) / MIB
    config = HardwareConfig.load(hardware)
    backend = ACALSimBackend(mode="simulate", hardware=config)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # operators on the host are counted below
        expected = model(*inputs)
        outputs: list[object] = []
        first_call = cpu(lambda: outputs.append(compiled(*inputs)))
        reports = backend.reports
        eager, steady = [], []
        for _ in range(repeat):
            eager.append(cpu(lambda: model(*inputs)))
            steady.append(cpu(lambda: compiled(*inputs)))
    lower, first_run = (sum(r.wall_s[part] or 0.0 for r in reports) for part in ("compile", "simulate"))
    pairs = zip(pytree.tree_leaves(outputs[0]), pytree.tree_leaves(expected), strict=True)
    error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    return {
        "name": name,
        "eager": statistics.median(eager),
        "capture": first_call - lower - first_run,
        "lower": lower,
        "first_run": first_run,
        "steady": statistics.median(steady),
        "ratio": statistics.median(steady) / statistics.median(eager),
        "weights_mib": weights,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "commands": sum(len(r.ops) for r in reports),
        "host": sum(len(r.fallbacks) for r in reports),
        "graphs": len(reports),
        "error": error,
        "host_operators": sorted({f["op"] for r in reports for f in r.fallbacks}),
        "cycles": sum(r.cycles.total or 0 for r in reports),
    }


def main() -> int:
    """Prints a row a model; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="default: all but the three smallest")
    parser.add_argument("--hw", default="edge")
    parser.add_argument("--repeat", type=int, default=5, help="timed calls of each kind")
    parser.add_argument("--dtype", default="float32", help="of weights and activations")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--in-process", action="store_true", help="measure one model here and print it as JSON")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in CATALOGUE if name not in BASIC]
    for name in names:
        if name not in CATALOGUE:
            parser.error(f"unknown model {name!r}: known: {', '.join(CATALOGUE)}")
    if arguments.in_process:
        print(json.dumps(measure(names[0], arguments.hw, arguments.repeat, arguments.dtype)))
        return 0

    print("processor seconds on one thread; weights and peak memory in MiB")
    print(f"{'model':<16}" + "".join(f"{title:>{width}}" for title, _, width, _ in COLUMNS))
    rows, failed = [], []
    for name in names:
        command = [sys.executable, __file__, name, "--in-process", "--hw", arguments.hw, "--dtype", arguments.dtype]
        child = subprocess.run(
            [*command, "--repeat", str(arguments.repeat)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            failed.append(name)
            print(f"{name:<16}failed: {(child.stderr.strip().splitlines() or ['no message'])[-1][:100]}", flush=True)
            continue
        rows.append(json.loads(child.stdout.splitlines()[-1]))
        cells = (f"{rows[-1][key]:>{width}{form}}" for _, key, width, form in COLUMNS)
        print(f"{name:<16}" + "".join(cells), flush=True)
    if rows:
        print(f"geometric mean of the ratios: {statistics.geometric_mean([row['ratio'] for row in rows]):.2f}")
    for row in rows:
        if row["host_operators"]:
            print(f"{row['name']} on the host: {', '.join(row['host_operators'])}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
