"""The tutorial's model: a matrix product and a bias. Writes examples/output_matmul/."""

from pathlib import Path

import torch
from torch import nn

from acalsim_backend import ACALSimBackend

OUTPUT = Path(__file__).parent / "output_matmul"


class MatMulModel(nn.Module):
    """A model with matrix multiplication."""

    def __init__(self, M=8, K=16, N=8):  # noqa: N803  # the tutorial's names
        super().__init__()
        self.weight = nn.Parameter(torch.randn(K, N))  # [16, 8]
        self.bias = nn.Parameter(torch.randn(N))  # [8]

    def forward(self, x):
        """x: [M, K] @ weight: [K, N] -> [M, N]."""
        y = torch.matmul(x, self.weight)
        y = y + self.bias
        return y  # noqa: RET504  # as the tutorial has it


def main() -> None:
    """Print the IR and write the C."""
    torch.manual_seed(0)
    model, x = MatMulModel(), torch.randn(8, 16)

    # Create backend with codegen mode
    backend = ACALSimBackend(
        mode="codegen",  # Generate RISC-V code
        verbose=True,  # Print compilation info
        output_dir=str(OUTPUT),
    )

    # Compile the model
    compiled = torch.compile(model, backend=backend)

    # Run inference (triggers compilation)
    with torch.no_grad():
        output = compiled(x)
    print(f"output: {tuple(output.shape)}")


if __name__ == "__main__":
    main()
