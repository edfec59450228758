"""A hardware file that states only its difference, compared with its base. Writes examples/output_hardware/."""

from pathlib import Path

import torch

from acalsim_backend import HardwareConfig, simulate
from acalsim_backend.models.basic import TransformerBlock

OUTPUT = Path(__file__).parent / "output_hardware"
WIDE = """schema = 1
name = "wide"
base = "edge"

[array]
rows = 32
cols = 32
"""


def main() -> None:
    """Write the file, run both machines, print their cycles."""
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "wide.toml"
    path.write_text(WIDE, encoding="utf-8")
    torch.manual_seed(0)
    model, x = TransformerBlock().eval(), torch.randn(1, 32, 64)
    for hardware in (HardwareConfig.load("edge"), HardwareConfig.load(path)):
        torch._dynamo.reset()
        _, report = simulate(model, x, hardware=hardware)
        print(f"{hardware.name:>6}: {hardware.array.rows}x{hardware.array.cols}, {report.cycles.total:,} cycles")


if __name__ == "__main__":
    main()
