"""Front ends: each turns what PyTorch hands over into CapturedGraphs."""
