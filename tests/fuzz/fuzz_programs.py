"""Throws random PyTorch programs at the backend: ``python fuzz_programs.py COUNT [--start SEED]``.

Each program runs in eager, through the backend and, where the two differ, through PyTorch's own aot_eager with its own
decompositions; a failure is the backend's where aot_eager is right. Failures are made small and printed as Python text
that runs on its own. Exit status 1 where there was one.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import queue
import subprocess
import sys
import threading
import warnings

CHUNK = 200
"""Programs for one worker process."""
STUCK_SECONDS = 600


def work(first: int, count: int, small: int) -> None:
    """Judge programs and write a line of JSON before and after each."""
    import torch
    from oracle import Backends, judge, minimise
    from programs import draw

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    backends = Backends()
    seen: collections.Counter[str] = collections.Counter()
    out, sys.stdout = sys.stdout, sys.stderr
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        print(json.dumps({"seed": seed}), file=out, flush=True)
        program = draw(seed)
        if program is None:
            line = {"outcome": "invalid"}
        else:
            verdict = judge(program, backends)
            line = {"outcome": verdict.outcome}
            if verdict.finding is not None:
                line |= {"kind": verdict.finding.kind, "signature": verdict.finding.signature}
                line["detail"] = verdict.finding.detail
                label = f"{verdict.finding.kind} {verdict.finding.signature}"
                if verdict.outcome == "ours" and seen[label] < small:
                    seen[label] += 1
                    program = minimise(program, verdict.finding, backends)
                    finding = judge(program, backends).finding
                    line["detail"] = finding.detail if finding else line["detail"]
                    line["snippet"] = program.snippet()
        print(json.dumps({"seed": seed, **line}), file=out, flush=True)
    faulthandler.cancel_dump_traceback_later()


class Fuzz:
    """Chunks of seeds, shared out to worker processes, and what came of them."""

    def __init__(self, first: int, count: int, small: int, soft: bool) -> None:
        self.chunks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        for start in range(first, first + count, CHUNK):
            self.chunks.put((start, min(CHUNK, first + count - start)))
        self.count, self.small, self.soft = count, small, soft
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.classes: collections.Counter[str] = collections.Counter()
        self.shown: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    def run(self, processes: int) -> bool:
        threads = [threading.Thread(target=self._worker, daemon=True) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._progress()
        for label, number in self.classes.most_common():
            print(f"{number:6}  {label}")
        return not self.outcomes["ours"]

    def _worker(self) -> None:
        while True:
            try:
                first, count = self.chunks.get_nowait()
            except queue.Empty:
                return
            end = first + count
            while first < end:
                first = self._process(first, end)

    def _process(self, first: int, end: int) -> int:
        """Run one worker process; the seed that comes next, where it died on one."""
        command = [sys.executable, __file__, str(end - first), "--start", str(first), "--small", str(self.small)]
        running = first
        with subprocess.Popen(
            [*command, "--worker"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            errors: collections.deque[str] = collections.deque(maxlen=30)
            reader = threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True)
            reader.start()
            for text in process.stdout:
                line = json.loads(text)
                running = line["seed"]
                if "outcome" in line:
                    self._record(line)
                    running += 1
            reader.join()
        if process.returncode == 0:
            return end
        detail = f"worker ended with status {process.returncode}\n{''.join(errors)}"
        line = {"seed": running, "outcome": "ours", "kind": "death", "signature": f"status {process.returncode}"}
        self._record({**line, "detail": detail})
        return running + 1

    def _record(self, line: dict[str, str]) -> None:
        with self.lock:
            outcome = line["outcome"]
            self.outcomes[outcome] += 1
            if outcome in ("ours", "soft"):
                label = f"{line['kind']}: {line['signature']}"
                self.classes[label] += 1
                self.shown[label] += 1
                if self.shown[label] <= self.small and (outcome == "ours" or self.soft):
                    print(f"\n# seed {line['seed']}: {label}\n# {line['detail'][:1000]}\n{line.get('snippet', '')}")
            if sum(self.outcomes.values()) % 100 == 0:
                self._progress()

    def _progress(self) -> None:
        outcomes = ", ".join(f"{number} {name}" for name, number in self.outcomes.most_common())
        print(f"{sum(self.outcomes.values())} of {self.count} programs: {outcomes}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="how many programs")
    parser.add_argument("--start", type=int, default=0, help="the first one's seed")
    parser.add_argument("--processes", type=int, default=2, help="worker processes")
    parser.add_argument("--small", type=int, default=1, help="failures of a class that are made small and printed")
    parser.add_argument("--soft", action="store_true", help="print programs whose outputs only have other strides, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.start, options.count, options.small)
        return 0
    return 0 if Fuzz(options.start, options.count, options.small, options.soft).run(options.processes) else 1


if __name__ == "__main__":
    sys.exit(main())
