"""CPU seconds and memory of the engine: GEMMs and ResNet-50, on a 128x128 array with HBM2. Exits 1 over target."""

from __future__ import annotations

import resource
import statistics
import sys
import time

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import Layer, conv, gemm, time_layers

HARDWARE = HardwareConfig.load("cloud4", {"accelerator.cores": "1"})

# ResNet-50 at 224x224, batch 1: (blocks, input size of the stage, width, stride of its first block).
STAGES = ((3, 56, 64, 1), (4, 56, 128, 2), (6, 28, 256, 2), (3, 14, 512, 2))


def resnet50() -> list[Layer]:
    """Its 53 convolutions and the classifier."""
    layers = [conv(1, 3, 224, 224, 64, 7, 7, stride=2, pad=3)]
    channels = 64
    for blocks, size, width, stride in STAGES:
        for block in range(blocks):
            step = stride if block == 0 else 1
            layers.append(conv(1, channels, size, size, width, 1, 1))
            layers.append(conv(1, width, size, size, width, 3, 3, stride=step, pad=1))
            if block == 0:
                layers.append(conv(1, channels, size, size, 4 * width, 1, 1, stride=step))
            size //= step
            layers.append(conv(1, width, size, size, 4 * width, 1, 1))
            channels = 4 * width
    return [*layers, gemm(1, 1000, 2048)]


def cpu_seconds(layers: list[Layer], runs: int = 3) -> tuple[float, int]:
    """Median CPU seconds of timing the layers in a new engine, and their cycles."""
    seconds = []
    cycles = 0
    for _ in range(runs):
        start = time.process_time()
        cycles = time_layers(layers, HARDWARE)["total_cycles"]
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), cycles


def main() -> int:
    """Prints a line per figure with its target."""
    small, cycles = cpu_seconds([gemm(1024, 1024, 1024)])
    large, large_cycles = cpu_seconds([gemm(4096, 4096, 4096)], 1)
    network, network_cycles = cpu_seconds(resnet50())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = (
        (f"GEMM 1024^3 ({cycles:,} cycles), CPU s", small, 0.05),
        (f"ResNet-50 batch 1 ({network_cycles:,} cycles), CPU s", network, 0.25),
        (f"GEMM 4096^3 ({large_cycles:,} cycles), CPU s over that of 1024^3", large / small, 70.0),
        ("resident memory, MiB", memory, 200.0),
    )
    for name, value, target in figures:
        print(f"{name}: {value:.3f} (target at most {target})")
    return int(any(value > target for _, value, target in figures))


if __name__ == "__main__":
    sys.exit(main())
