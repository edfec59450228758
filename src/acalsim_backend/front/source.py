"""Where in the user's code a captured call stands."""

from __future__ import annotations

import re

from torch import fx

_ROOT = re.compile(r"^L\['\w+'\]")  # the variable that the model is in
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def source_line(node: fx.Node) -> str:
    """``file:line`` of the innermost frame outside torch, "" where none was recorded."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    user = [f for f in frames if "/torch/" not in f[0]] or frames
    return f"{user[-1][0]}:{user[-1][1]}" if user else ""


def copy_place(source: fx.Node, copy: fx.Node) -> None:
    """Let ``copy`` stand where ``source`` stands in the user's code; a check stands where what it checks does."""
    copy.meta = {key: source.meta[key] for key in ("stack_trace", "nn_module_stack") if source.meta.get(key)}
    checked = next(iter(copy.all_input_nodes), None)
    if "stack_trace" not in copy.meta and checked is not None and "stack_trace" in checked.meta:
        copy.meta["stack_trace"] = checked.meta["stack_trace"]


def module_path(node: fx.Node) -> str:
    """The ``nn.Module`` path of a call, "" outside modules."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    return _ROOT.sub("", str(path)).lstrip(".")
