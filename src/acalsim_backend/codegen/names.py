"""Names and text of the user in generated C: identifiers that clash with nothing, comments that end with their line.

A generated program has identifiers of C itself, of its headers, of the runtime and of its own. A tensor that is called
like one of these gets ``t_`` in front; one whose name is another's gets ``_`` behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = frozenset(
    ("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float",
     "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof",
     "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "asm", "main",
     "NULL", "offsetof", "memcpy", "memset", "memmove", "memcmp", "trap_entry", "wait_device_ready",
     "arena", "working", "image", "inputs", "outputs", "status", "sum",
     "AT", "BUFFER", "PLACE", "STORED", "UNUSED", "SEED_INPUTS", "ECHO_DEVICE_BASE", "COMPUTE_DEVICE_BASE")
)  # fmt: skip
_PATTERNS = (
    r"_\w*",  # C's own at file scope, compilers' and linker scripts'
    r"(?i:acal_)\w*",  # the runtime's
    r"u?int(_least|_fast)?\d+_t|u?int(ptr|max)_t|(r?size|ptrdiff|wchar|max_align)_t",  # stdint.h and stddef.h
    r"U?INT(_LEAST|_FAST)?(\d+|PTR|MAX)_\w+|(R?SIZE|PTRDIFF|WCHAR|WINT|SIG_ATOMIC)_(MIN|MAX|WIDTH)",
    r"(REG|CMD|STATUS|MMIO)_\w+",
    r"[A-Z0-9_]+_(SIZE|DIM\d+)",
    r"main_(input|output)_\d+",
    r"[bikmnv]\d*",  # variables of loops
)
_RESERVED = re.compile("|".join(_PATTERNS))


def main_input(position: int) -> str:
    """C name of what ``main`` passes for an input."""
    return f"main_input_{position}"


def main_output(position: int) -> str:
    """C name of where ``main`` takes an output."""
    return f"main_output_{position}"


def example(name: str) -> str:
    """C name of the captured value of the input that has a C name."""
    return f"example_{name}"


def image(graph: str) -> str:
    """C name of the variable with a graph's commands."""
    return f"{graph}_image"


def c_names(names: Iterable[str], graph: str) -> list[str]:
    """The names of a graph's tensors as identifiers of C, all different; those that may stay as they are do."""
    own = {f"{graph}_init", f"{graph}_forward", f"{graph}_cleanup", image(graph), guard(graph)}
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        while plain[0].isdigit() or plain in _WORDS or plain in own or _RESERVED.fullmatch(plain):
            plain = f"t_{plain}"
        while not taken.isdisjoint(family := {plain, example(plain)}):
            plain += "_"
        taken |= family
        found.append(plain)
    return found


def guard(graph: str) -> str:
    """The macro that keeps a graph's header from being taken in twice."""
    return f"{graph.upper()}_H"


def macro_names(names: Iterable[str]) -> dict[str, str]:
    """How the macros with the dimensions of tensors begin, by C name: in capitals, all different."""
    found: dict[str, str] = {}
    taken = {"REG"}  # which has the register REG_SIZE
    for name in names:
        macro = name.upper()
        while macro in taken:
            macro += "_"
        taken.add(macro)
        found[name] = macro
    return found


def comment(text: str) -> str:
    """Text that can stand behind // without going on in the next line, and that any editor shows."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = re.sub(r"\?(?=\?)", "? ", shown)  # ??/ is a backslash
    return re.sub(r"[\\ ]+$", "", re.sub(" +", " ", shown))
