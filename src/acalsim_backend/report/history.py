"""The reports that a backend keeps, the latest ones, bounded by what they take in memory."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from acalsim_backend.locks import Rank, make_lock
from acalsim_backend.report.model import RunReport

REPORT_BYTES = 64 << 20
"""What the reports of one backend may take; the oldest go first."""
_BYTES_PER_ROW = 1 << 10  # measured


class History:
    """Reports in order of their runs. Any thread may add to it; ``last`` is the latest of all histories."""

    last: ClassVar[RunReport | None] = None

    def __init__(self) -> None:
        self._reports: deque[RunReport] = deque()
        self._nbytes = 0
        self._lock = make_lock(Rank.TABLE)

    @property
    def reports(self) -> list[RunReport]:
        """Oldest first."""
        with self._lock:
            return list(self._reports)

    def add(self, report: RunReport) -> None:
        """Keep a report; others go where all of them take too much."""
        with self._lock:
            self._reports.append(report)
            self._nbytes += _nbytes(report)
            while self._nbytes > REPORT_BYTES and len(self._reports) > 1:
                self._nbytes -= _nbytes(self._reports.popleft())
            History.last = report

    def replace(self, report: RunReport, by: RunReport) -> None:
        """Put another report in the place of one that is kept."""
        with self._lock:
            for i in range(len(self._reports) - 1, -1, -1):
                if self._reports[i] is report:
                    self._reports[i] = by
                    break
            if History.last is report:
                History.last = by


def _nbytes(report: RunReport) -> int:
    uses = 0 if report.memoised else sum(len(unit.uses) for unit in report.units)  # else another report has them, too
    return _BYTES_PER_ROW * (len(report.ops) + 1) + uses
