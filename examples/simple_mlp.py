"""A small MLP becomes C for the RISC-V core and the accelerator. Writes examples/output_mlp/."""

from pathlib import Path

import torch
from torch import nn

from acalsim_backend import ACALSimBackend

OUTPUT = Path(__file__).parent / "output_mlp"


class SimpleMLP(nn.Module):
    """Two linear layers with a ReLU between them: [batch, 16] -> [batch, 10]."""

    def __init__(self, inputs: int = 16, hidden: int = 32, outputs: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, inputs] -> [batch, outputs]."""
        return self.fc2(torch.relu(self.fc1(x)))


def main() -> None:
    """Generate the code, then run the same model on the simulated machine."""
    torch.manual_seed(0)
    model, x = SimpleMLP().eval(), torch.randn(4, 16)
    expected = model(x)

    backend = ACALSimBackend(mode="codegen", verbose=True, output_dir=str(OUTPUT))
    with torch.no_grad():
        torch.compile(model, backend=backend)(x)

    torch._dynamo.reset()
    simulator = ACALSimBackend(mode="simulate")
    with torch.no_grad():
        output = torch.compile(model, backend=simulator)(x)
    print(simulator.reports[-1].table())
    print(f"largest difference from PyTorch: {(output - expected).abs().max():.1e}")


if __name__ == "__main__":
    main()
