"""Commands of synthetic layers, timed by the engine."""

from __future__ import annotations

from typing import Any

from acalsim_backend.device.timing import Completion, Timing, engine_config
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import Layer, make_layers


def layer(kind: str, *sizes: int, dtype: str = "f32", **options: int) -> Layer:
    """One layer as `acalsim time` builds it."""
    return make_layers(kind, sizes, dtype=dtype, options=options)[0]


def run(hardware: str | HardwareConfig, *layers: Layer, **overrides: object) -> tuple[int, list[Completion]]:
    """Cycles and completions of layers in one segment; override keys have ``__`` for the dot."""
    values = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    segment = Timing(HardwareConfig.load(hardware, values)).segment(
        [c.encode() for part in layers for c in part.commands]
    )
    return segment.cycles, list(segment.completions)


def config(hardware: str, **overrides: object) -> dict[str, Any]:
    """The engine's configuration, for tests that change what the hardware file does not offer."""
    return engine_config(HardwareConfig.load(hardware, {k.replace("__", "."): str(v) for k, v in overrides.items()}))
