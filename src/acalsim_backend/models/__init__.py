"""The built-in models and the user's own: what ``acalsim run TARGET`` can name.

The catalogue needs no torch, so that listing it is instant; a model's module is imported when it is built.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from acalsim_backend.errors import InputError, UnknownNameError
from acalsim_backend.text import user_line

if TYPE_CHECKING:
    import torch

EXPECTED = "(model, inputs): an nn.Module or a function, and a tensor, a tuple of arguments or a dict of named ones"


@dataclass(frozen=True)
class BuiltIn:
    """A model with random weights. ``builder`` is ``module:class`` below this package; ``inputs`` are f32 shapes."""

    name: str
    summary: str
    builder: str
    parameters: int
    inputs: tuple[tuple[int, ...], ...]


CATALOGUE = {
    model.name: model
    for model in (
        BuiltIn(
            "matmul", "one matrix product and a bias, the tutorial's first model", "basic:MatMulModel", 136, ((8, 16),)
        ),
        BuiltIn("mlp", "linear, ReLU, linear", "basic:Mlp", 874, ((4, 16),)),
        BuiltIn(
            "attention",
            "transformer block: 4 heads, layer norm, GELU",
            "basic:TransformerBlock",
            49_984,
            ((1, 32, 64),),
        ),
        BuiltIn("resnet18", "image classifier, 18 layers", "resnet:resnet18", 11_689_512, ((1, 3, 224, 224),)),
        BuiltIn("resnet50", "image classifier, 50 layers", "resnet:resnet50", 25_557_032, ((1, 3, 224, 224),)),
    )
}


def load_target(target: str, seed: int = 0) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """Build what a TARGET names: a built-in model or ``file.py:function``; weights and inputs follow from ``seed``.

    The function takes no argument and returns ``(model, inputs)`` or ``(model, inputs, keyword_inputs)``. The model is
    an ``nn.Module`` or any function of tensors; inputs are one tensor, a tuple or list of arguments of any kind, or a
    dict of keyword arguments. The result takes positional arguments alone.

    Raises:
        UnknownNameError: no built-in model of that name.
        InputError: the file or the function cannot be used; says why.
    """
    file, colon, function = target.rpartition(":")
    if not colon and target.endswith(".py"):
        raise InputError(f"{target}: name the function that returns (model, inputs), as in {target}:make_model")
    if colon:
        return _from_file(Path(file), function, seed)
    if target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)
    return _built_in(CATALOGUE[target], seed)


def check_target(target: str) -> None:
    """Refuse a TARGET that cannot be found, before anything slow is imported."""
    file, colon, _ = target.rpartition(":")
    if colon:
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; TARGET is a built-in model or file.py:function")
    elif not target.endswith(".py") and target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)


def _built_in(entry: BuiltIn, seed: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    import torch

    module_name, _, builder = entry.builder.partition(":")
    build: Callable[[], torch.nn.Module] = getattr(importlib.import_module(f"{__name__}.{module_name}"), builder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
        return model, tuple(torch.randn(shape) for shape in entry.inputs)


def _from_file(path: Path, function: str, seed: int) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; TARGET is a built-in model or file.py:function")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = _import_file(path)
        except (Exception, SystemExit) as error:
            raise InputError(f"{path}: importing it failed: {_one_line(error)}") from error
        make = getattr(module, function, None)
        if not callable(make):
            defined = [name for name, value in vars(module).items() if isinstance(value, FunctionType)]
            if not defined:
                raise InputError(f"{path}: defines no function, expected {function}() that returns {EXPECTED}")
            raise InputError(f"{path}: {UnknownNameError('function', function, defined)}")
        try:
            result = make()
        except (Exception, SystemExit) as error:
            raise InputError(f"{path}:{function}() failed: {_one_line(error)}") from error
    try:
        return _as_call(result)
    except InputError as error:
        raise InputError(f"{path}:{function}() returned {error}") from None


def _as_call(result: object) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """What a function of the user returned, as a module and its positional arguments."""
    import torch

    keywords: dict[str, Any]
    match result:
        case (model, dict() as keywords):
            arguments: tuple[Any, ...] = ()
        case (model, torch.Tensor() as single):
            arguments, keywords = (single,), {}
        case (model, (tuple() | list()) as inputs):
            arguments, keywords = tuple(inputs), {}
        case (model, (tuple() | list()) as inputs, dict() as keywords):
            arguments = tuple(inputs)
        case _:
            raise InputError(f"{_shape_of(result)}, expected {EXPECTED}")
    if not callable(model) or isinstance(model, type) or not all(isinstance(name, str) for name in keywords):
        raise InputError(f"{_shape_of(result)}, expected {EXPECTED}")
    if keywords or not isinstance(model, torch.nn.Module):
        model = _call_of(model, len(arguments), tuple(keywords))
        arguments += tuple(keywords.values())
    _refuse_meta(model, arguments)
    return model, arguments


def _call_of(function: Callable[..., Any], positional: int, keywords: tuple[str, ...]) -> torch.nn.Module:
    """A module that calls ``function`` with its first arguments by position and the others by name."""
    import torch

    class Call(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = function

        def forward(self, *arguments: Any) -> Any:
            named = dict(zip(keywords, arguments[positional:], strict=True))
            return self.model(*arguments[:positional], **named)

    Call.__name__ = getattr(function, "__name__", type(function).__name__)
    return Call().train(getattr(function, "training", False))


def _refuse_meta(model: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
    """Tensors on the device meta have a shape and no values."""
    import torch
    from torch.utils import _pytree as pytree

    named = [*model.named_parameters(), *model.named_buffers()]
    named += [(f"input {i}", leaf) for i, leaf in enumerate(pytree.tree_leaves(arguments))]
    for name, tensor in named:
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            raise InputError(f"a model whose {name} is on the device meta, without values; build it on the CPU")


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that hides no package; its folder comes first on the path, as for a script."""
    sys.path.insert(0, str(path.resolve().parent))
    name = f"acalsim_target_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}{user_line(error)}"


def _shape_of(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(v).__name__ for v in value) + ")"
    return type(value).__name__
