"""Watches the calls of compiled models: what Dynamo did not capture runs eagerly, outside the machine.

PyTorch calls a backend when it has a graph, and says nothing when it has none: a frame that it cannot trace, code
around a graph break and shapes beyond the recompile limit run in Python. ``torch.compile`` enters a context of the
backend around every call; here it notes which graphs ran and what Dynamo gave up on meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch._dynamo import convert_frame, utils
from torch._dynamo.guards import CheckFunctionManager
from torch._dynamo.output_graph import GraphCompileReason
from torch._dynamo.repro.after_dynamo import WrapBackendDebug

from acalsim_backend.errors import UsageError
from acalsim_backend.locks import make_condition

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

    watcher: Watcher
    runs: list[Any] = field(default_factory=list)
    new: list[Uncaptured] = field(default_factory=list)
    """What Dynamo gave up on in this call."""
    breaks: list[GraphCompileReason] = field(default_factory=list)
    compilations: list[utils.CompilationMetrics] = field(default_factory=list)


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
        self._first = _FirstCall()

    def __deepcopy__(self, memo: dict[int, Any]) -> Watcher:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Watcher, (self._find,)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        stack: list[Call] = _calls.__dict__.setdefault("stack", [])
        call = Call(self)
        stack.append(call)
        _listen()
        raised = sys.exception()
        rnn = torch._dynamo.config.allow_rnn  # without it nn.RNN, nn.GRU and nn.LSTM are left to Python
        try:
            with self._first:
                if not rnn:
                    torch._dynamo.config.allow_rnn = True
                yield
        finally:
            stack.pop()
            if not rnn:
                torch._dynamo.config.allow_rnn = rnn
        if sys.exception() is not raised:
            return  # the call failed, and says so itself
        known = {u.source for u in self._known}  # one line may break the graph and then be given up
        for found in (*_graph_breaks(call.breaks), *_given_up(call.compilations)):
            if found.source not in known:
                known.add(found.source)
                call.new.append(found)
        before = list(self._known)
        self._known += call.new
        if self._known:
            self._find().end_call(call, before)


class _FirstCall:
    """Lets one thread compile a model, and others that call it meanwhile wait, for each would compile it again.

    They do not wait for what the model does besides: it may wait for them.
    """

    PATIENCE_S = 0.3
    """How long they wait while nothing is compiled."""

    def __init__(self) -> None:
        self._changed = make_condition()
        self._leader: int | None = None
        self._is_over = False

    def __enter__(self) -> None:
        if self._is_over:
            return
        with self._changed:
            idle = time.monotonic()
            while self._leader not in (None, threading.get_ident()) and not self._is_over:
                self._changed.wait(0.02)
                if _is_compiling():
                    idle = time.monotonic()
                elif time.monotonic() - idle > self.PATIENCE_S:
                    return
            self._leader = threading.get_ident()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_over:
            return
        with self._changed:
            self._is_over = kind is None
            if self._leader == threading.get_ident():
                self._leader = None
            self._changed.notify_all()


def _is_compiling() -> bool:
    """Whether Dynamo is at work in some thread."""
    if convert_frame.compile_lock.acquire(blocking=False):
        convert_frame.compile_lock.release()
        return False
    return True


class _Metrics(deque[Any]):
    """What Dynamo keeps of its compilations; each is told to the call that it was for."""

    def append(self, metrics: Any) -> None:
        super().append(metrics)
        call = current_call()
        if call is not None:
            call.compilations.append(metrics)


def _listen() -> None:
    """Hear of graph breaks and compilations in the thread in which they happen."""
    if type(utils._compilation_metrics) is not _Metrics:
        known = utils._compilation_metrics
        utils._compilation_metrics = _Metrics(known, maxlen=known.maxlen)


def _note_break(self: GraphCompileReason, note: Callable[[Any], None] = GraphCompileReason.__post_init__) -> None:
    note(self)
    call = current_call()
    if call is not None and self.graph_break:
        call.breaks.append(self)


setattr(GraphCompileReason, "__post_init__", _note_break)  # noqa: B010  # mypy: no method is assigned to


def _graph_breaks(reasons: Sequence[GraphCompileReason]) -> Iterator[Uncaptured]:
    for reason in reasons:
        frame = reason.user_stack[-1] if reason.user_stack else None
        source = f"{frame.filename}:{frame.lineno}" if frame else ""
        yield Uncaptured("graph break", source, _first_line(reason.reason))


def _given_up(compilations: Sequence[utils.CompilationMetrics]) -> Iterator[Uncaptured]:
    """Frames that Dynamo began to trace and left to Python."""
    for metrics in compilations:
        if not metrics.fail_type:
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
        remedy = "use torch.compile(..., dynamic=True), recompile_limit=N, or isolate_recompiles=True for many models"
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


def forget(backend: object) -> None:
    """Drop everything that Dynamo compiled with a backend; what it compiled is found at code objects."""
    from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list, reset_code
    from torch._dynamo.convert_frame import input_codes

    guards = []
    for reference in list(input_codes.seen):
        code = reference()
        if code is None:
            continue
        entries = _debug_get_cache_entry_list(code)
        if any(_backend_of(e.backend) is backend for e in entries):
            guards += [e.guard_manager for e in entries]
            reset_code(code)
    _release(guards)


def _release(guards: Sequence[object]) -> None:
    """Give up guards whose code is gone: the finalizers of what they look at would keep them as long as a model."""
    registry: Mapping[weakref.finalize[..., Any], Any] = getattr(weakref.finalize, "_registry", {})
    for finalizer in list(registry):
        found = finalizer.peek()
        owner = getattr(getattr(found[1], "func", None), "__self__", None) if found else None
        if isinstance(owner, CheckFunctionManager) and any(owner.guard_manager is g for g in guards):
            finalizer.detach()


def _backend_of(wrapper: Any) -> object:
    inner = getattr(wrapper, "_torchdynamo_orig_backend", wrapper)
    backend = inner.compiler_fn if isinstance(inner, torch._TorchCompileWrapper) else inner
    return backend._backend() if isinstance(backend, _WeakBackend) else backend


def _context_of(wrapper: Any) -> Any:
    """What Dynamo takes for ``backend_ctx_ctor`` of a backend that ``torch.compile`` has wrapped."""
    if "backend_ctx_ctor" in wrapper.__dict__:
        return wrapper.__dict__["backend_ctx_ctor"]
    inner = wrapper._torchdynamo_orig_backend
    options: Mapping[str, Any] = {}
    backend: Any = inner
    if isinstance(inner, torch._TorchCompileWrapper):
        backend, options = inner.compiler_fn, inner.kwargs
    is_shared = inspect.isfunction(backend) or inspect.isclass(backend)
    find = getattr(backend, "shared" if is_shared else "watched", None)
    if find is None:
        return contextlib.nullcontext
    if isinstance(inner, torch._TorchCompileWrapper) and not is_shared:
        inner.compiler_fn = wrapper.compiler_fn = _WeakBackend(backend)
    return Watcher(functools.partial(find, **options))


class _WeakBackend:
    """What Dynamo keeps of each backend it saw, until it is reset. A compiled model's Watcher holds the backend."""

    __name__ = "acalsim"

    def __init__(self, backend: Any) -> None:
        self._backend = weakref.ref(backend)
        self._id = id(backend)

    def __call__(self, gm: torch.fx.GraphModule, example_inputs: Sequence[Any], **kwargs: Any) -> Any:
        backend = self._backend()
        if backend is None:
            raise UsageError("the backend of this model is gone; keep it, or the model that was compiled with it")
        return backend(gm, example_inputs, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _WeakBackend) and self._backend() is not None and self._backend() is other._backend()

    def __hash__(self) -> int:
        return self._id

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._backend(),)


def _itself(backend: Any) -> Any:
    return backend


# torch.compile's wrapper hides the attribute ``backend_ctx_ctor`` of the backend that it wraps.
setattr(WrapBackendDebug, "backend_ctx_ctor", property(_context_of))  # noqa: B010  # the class does not declare it
