from collections.abc import Callable

class Completion:
    """A finished command; cycles count from the doorbell to an idle device."""

    id: int
    start: int
    end: int
    array_cycles: int
    array_busy: int
    vector_busy: int
    bytes_read: int
    bytes_written: int
    macs: int
    vector_ops: int
    mac_dtype: int
    dataflow: str
    scratchpad_bytes: int
    accumulator_bytes: int
    bursts: int
    row_hits: int
    bank_conflict_cycles: int
    @property
    def stall(self) -> dict[str, int]: ...
    def __init__(self, **values: int | str | dict[str, int]) -> None: ...
    def to_dict(self) -> dict[str, int | str | dict[str, int]]: ...

class ChannelStats:
    """What one memory channel has moved since the canonical state."""

    bytes_read: int
    bytes_written: int
    bursts: int
    row_hits: int

UNITS: list[str]

class Engine:
    """Schedules commands; see device/timing.py for the configuration.

    One thread at a time may use it: a call while another one is at work raises RuntimeError.
    """

    def __init__(self, config: dict[str, int | str]) -> None: ...
    def submit(self, now: int, command: bytes) -> None: ...
    def next_event(self) -> int | None: ...
    def advance(self, now: int) -> None: ...
    def run(self, progress: Callable[[float, int], object] | None = None) -> int: ...
    def abandon(self) -> None: ...
    def estimate(self, command: bytes) -> float: ...
    def mapping(self, command: bytes) -> str: ...
    def pin_mapping(self, command: bytes, mapping: str) -> None: ...
    def completions(self) -> list[Completion]: ...
    def channels(self) -> list[ChannelStats]: ...
    def intervals(self) -> bytes: ...
    def stats(self) -> dict[str, int]: ...
