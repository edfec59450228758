"""ResNet-18 on the simulated machine: the class scores and the slowest layers. Writes examples/output_resnet18/."""

from pathlib import Path

import torch

from acalsim_backend import simulate
from acalsim_backend.models import load_target

OUTPUT = Path(__file__).parent / "output_resnet18"


def main() -> None:
    """Run, compare with PyTorch and save report and trace."""
    model, (image,) = load_target("resnet18")
    scores, report = simulate(model, image)
    with torch.no_grad():
        expected = model(image)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)
    print(f"class {int(scores.argmax())}, as in PyTorch; {report.cycles.total:,} cycles")
    for row in sorted(report.ops, key=lambda row: row.start_cycle - row.end_cycle)[:5]:
        print(f"  {row.end_cycle - row.start_cycle:>9,} cycles  {row.name}")
    OUTPUT.mkdir(exist_ok=True)
    report.save(OUTPUT / "report.json")
    report.trace(OUTPUT / "trace.json")


if __name__ == "__main__":
    main()
