"""How near the engine comes to what the hardware could give: products, streams, cores. All figures are exact cycles."""

from __future__ import annotations

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import elementwise, gemm, time_layers

# Share of the time that refresh leaves, 1 - tRFC / tREFI, from the standards of the presets' memories.
NET_OF_REFRESH = {"edge": 1 - 280 / 3906, "gemmini": 1 - 350 / 7800, "cloud4": 1 - 350 / 3900, "tpuv3": 1 - 350 / 3900}


def main() -> None:
    """Prints a line per figure."""
    for name in ("edge", "cloud4", "gemmini", "tpuv3"):
        (row,) = time_layers([gemm(4096, 4096, 4096)], HardwareConfig.load(name))["layers"]
        print(f"GEMM 4096^3 on {name:8} {row['cycles']:>11,} cycles, {row['utilization']:6.1%} of peak")
    for name, net in NET_OF_REFRESH.items():
        hardware = HardwareConfig.load(name)
        (row,) = time_layers([elementwise(1 << 24)], hardware)["layers"]
        share = row["dram_gbytes_per_s"] / hardware.dram.bandwidth_gbytes_per_s
        print(f"add of 64 MiB on {name:8} {share:6.1%} of DRAM peak, {share / net:6.1%} net of refresh")
    quarter = {"accelerator.cores": "1", "dram.channels": "16", "dram.bandwidth_gbytes_per_s": "256"}
    one, four = (
        time_layers([gemm(4096, 4096, 4096)], HardwareConfig.load("cloud4", changes))["total_cycles"]
        for changes in (quarter, {})
    )
    print(f"GEMM 4096^3 on 4 cores with 4 times the bandwidth: {one / four:.2f} times faster than on one")


if __name__ == "__main__":
    main()
