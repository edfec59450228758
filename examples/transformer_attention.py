"""A transformer block: what runs on the accelerator, and what that costs. Writes examples/output_attention/."""

from pathlib import Path

import torch

from acalsim_backend import ACALSimBackend, simulate
from acalsim_backend.models.basic import TransformerBlock

OUTPUT = Path(__file__).parent / "output_attention"


def main() -> None:
    """Generate the code, then run on two accelerators."""
    torch.manual_seed(0)
    model, x = TransformerBlock(width=64, heads=4).eval(), torch.randn(1, 32, 64)
    backend = ACALSimBackend(mode="codegen", output_dir=str(OUTPUT))
    with torch.no_grad():
        torch.compile(model, backend=backend)(x)
    for op in backend.get_compiled_ir("graph_0").ops:
        print(op)
    for hardware in ("edge", "gemm_only"):
        torch._dynamo.reset()
        _, report = simulate(model, x, hardware=hardware)
        print(report.table())


if __name__ == "__main__":
    main()
