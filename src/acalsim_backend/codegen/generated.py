"""The C form of a Program as something that runs: generated, built by the cross compiler, started on a machine."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acalsim_backend.codegen.build import build
from acalsim_backend.codegen.files import write_files
from acalsim_backend.codegen.memory_map import MemoryMap
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.run.standalone import Standalone

if TYPE_CHECKING:
    from acalsim_backend.program.snapshot import Snapshot
    from acalsim_backend.run.result import RunResult


class GeneratedProgram:
    """Runs Snapshots of one Program; builds again when a weight changed. ``build_s`` is what the last build took."""

    def __init__(self, hardware: HardwareConfig, machine: str, functional: str | None = None) -> None:
        self._hardware = hardware
        self._machine = machine
        self._functional = functional
        self._standalone: Standalone | None = None
        self._weights = b""
        self.build_s = 0.0

    def run(self, snapshot: Snapshot) -> RunResult:
        """Run on the snapshot's inputs.

        Raises:
            MissingToolError, BuildError: there is no compiler, or it failed.
            MachineError: the guest did not come to its end.
        """
        digest = hashlib.sha256()
        for tensor in snapshot.stored:
            digest.update(snapshot.bytes_of(tensor))
        if self._standalone is None or digest.digest() != self._weights:
            self.close()
            self._standalone = self._start(snapshot)
            self._weights = digest.digest()
        values = {t.id: np.frombuffer(snapshot.data[t.id], np.uint8) for t in snapshot.inputs}
        return self._standalone.run(values)

    def _start(self, snapshot: Snapshot) -> Standalone:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="acalsim-") as scratch:
            write_files(snapshot, Path(scratch), with_runtime=False)
            elf = build(Path(scratch), snapshot.name)
            places = MemoryMap(snapshot)
            standalone = Standalone(
                elf,
                snapshot.program,
                places.image,
                places.examples,
                self._hardware,
                self._machine,
                self._functional,
            )
        self.build_s = time.perf_counter() - start
        return standalone

    def close(self) -> None:
        """End the machine."""
        if self._standalone is not None:
            self._standalone.close()
            self._standalone = None
