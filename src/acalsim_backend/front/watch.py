"""Watches the calls of compiled models: what Dynamo did not capture runs eagerly, outside the machine.

PyTorch calls a backend when it has a graph, and says nothing when it has none: a frame that it cannot trace, code
around a graph break and shapes beyond the recompile limit run in Python. ``torch.compile`` enters a context of the
backend around every call; here it notes which graphs ran and what Dynamo gave up on meanwhile.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch._dynamo import utils
from torch._dynamo.repro.after_dynamo import WrapBackendDebug

_LIMIT = "recompile limit exceeded"


@dataclass(frozen=True)
class Uncaptured:
    """Code that ran eagerly: what it was, the user's line ``file:line``, and why Dynamo did not capture it."""

    what: str
    source: str
    cause: str
    is_limit: bool = False
    """Too many shapes: calls with known ones still run on the machine."""

    def __str__(self) -> str:
        place = f" ({self.source})" if self.source else ""
        return f"{self.what}{place}: {self.cause}"


@dataclass
class Call:
    """One call of a compiled model. ``runs`` is what the backend noted of each graph that ran in it."""

    runs: list[Any] = field(default_factory=list)
    new: list[Uncaptured] = field(default_factory=list)
    """What Dynamo gave up on in this call."""


class Watched(Protocol):
    """A backend that wants to know what happened in each call."""

    def end_call(self, call: Call, known: list[Uncaptured]) -> None:
        """Called after a call without an error; ``known`` is what was not captured in earlier ones."""
        ...


_calls = threading.local()


def current_call() -> Call | None:
    """The innermost call of a compiled model that this thread is in."""
    stack = getattr(_calls, "stack", None)
    return stack[-1] if stack else None


class Watcher:
    """Makes the context of every call of one compiled model; ``find`` gives its backend."""

    def __init__(self, find: Callable[[], Watched]) -> None:
        self._find = find
        self._known: list[Uncaptured] = []
        self._first = threading.RLock()
        self._has_run = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        stack: list[Call] = _calls.__dict__.setdefault("stack", [])
        call = Call()
        stack.append(call)
        breaks, started = len(utils.graph_break_reasons), time.time_ns() // 1000
        raised = sys.exception()
        # threads that make the first call together would each compile, and so exhaust the recompile limit
        alone = contextlib.nullcontext() if self._has_run else self._first
        try:
            with alone, _recurrent_layers:
                yield
        finally:
            stack.pop()
        if sys.exception() is not raised:
            return  # the call failed, and says so itself
        self._has_run = True
        known = {(u.source, u.cause) for u in self._known}
        for found in (*_graph_breaks(breaks), *_given_up(started)):
            if (found.source, found.cause) not in known:
                known.add((found.source, found.cause))
                call.new.append(found)
        if call.new or self._known:
            self._find().end_call(call, self._known)
        self._known += call.new


def _graph_breaks(first: int) -> Iterator[Uncaptured]:
    for reason in utils.graph_break_reasons[first:]:
        frame = reason.user_stack[-1] if reason.user_stack else None
        source = f"{frame.filename}:{frame.lineno}" if frame else ""
        yield Uncaptured("graph break", source, _first_line(reason.reason))


def _given_up(started: int) -> Iterator[Uncaptured]:
    """Frames that Dynamo began to trace since ``started`` (microseconds) and left to Python."""
    for metrics in list(utils._compilation_metrics):
        if not metrics.fail_type or (metrics.start_time_us or 0) < started:
            continue
        cause = _first_line(metrics.fail_reason or metrics.fail_type)
        if _LIMIT in cause:
            yield Uncaptured("call that needs a further capture", user_line(), _limit(metrics), is_limit=True)
            continue
        file, line = metrics.fail_user_frame_filename, metrics.fail_user_frame_lineno
        source = f"{file}:{line}" if file and line else f"{metrics.co_filename}:{metrics.co_firstlineno}"
        yield Uncaptured(f"frame {metrics.co_name!r}", source, cause)


def _limit(metrics: utils.CompilationMetrics) -> str:
    reason = _first_line(metrics.recompile_reason or "")
    if "BACKEND_MATCH" in reason:
        reason, remedy = "each compilation had a backend of its own", "use one backend for all of them"
    else:
        remedy = "use dynamic=True, or torch.compile(..., recompile_limit=N)"
    return f"PyTorch's recompile limit of {torch._dynamo.config.recompile_limit} is reached ({reason}); {remedy}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"


def user_line() -> str:
    """``file:line`` of the innermost frame of this thread that is neither PyTorch's nor ours."""
    inner = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent), contextlib.__file__)
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(inner):
            return f"{frame.filename}:{frame.lineno}"
    return ""


class _RecurrentLayers:
    """While somebody is inside, Dynamo captures nn.RNN, nn.GRU and nn.LSTM, which it otherwise leaves to Python."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch._dynamo.config.allow_rnn
                torch._dynamo.config.allow_rnn = True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch._dynamo.config.allow_rnn = self._before


_recurrent_layers = _RecurrentLayers()


def _context_of(wrapper: Any) -> Any:
    """What Dynamo takes for ``backend_ctx_ctor`` of a backend that ``torch.compile`` has wrapped."""
    if "backend_ctx_ctor" in wrapper.__dict__:
        return wrapper.__dict__["backend_ctx_ctor"]
    backend: Any = wrapper
    options: Mapping[str, Any] = {}
    while True:
        if isinstance(backend, torch._TorchCompileWrapper):
            backend, options = backend.compiler_fn, backend.kwargs
        elif hasattr(backend, "_torchdynamo_orig_backend"):
            backend = backend._torchdynamo_orig_backend
        else:
            break
    find = getattr(backend, "watched", None)
    return contextlib.nullcontext if find is None else Watcher(lambda: find(**options))


# torch.compile's wrapper hides the attribute ``backend_ctx_ctor`` of the backend that it wraps.
setattr(WrapBackendDebug, "backend_ctx_ctor", property(_context_of))  # noqa: B010  # the class does not declare it
