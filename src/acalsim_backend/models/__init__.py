"""The built-in models and the user's own: what ``acalsim run TARGET`` can name.

The catalogue needs no torch, so that listing it is instant; a model's module is imported when it is built.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from acalsim_backend.errors import InputError, UnknownNameError, one_line, user_line

if TYPE_CHECKING:
    import torch

HUGGINGFACE = "hf:"
EXPECTED = "(model, inputs): an nn.Module or a function, and a tensor, a tuple of arguments or a dict of named ones"


@dataclass(frozen=True)
class Input:
    """An example input: f32, normally distributed, or i64, drawn evenly from ``range(below)``."""

    shape: tuple[int, ...]
    below: int | None = None


@dataclass(frozen=True)
class BuiltIn:
    """A model with random weights. ``builder`` is ``module:callable`` below this package, called with ``sizes``."""

    name: str
    summary: str
    builder: str
    parameters: int
    inputs: tuple[Input, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)


IMAGE = Input((1, 3, 224, 224))


def _huggingface(name: str, summary: str, parameters: int, *inputs: Input) -> BuiltIn:
    return BuiltIn(name, summary, "huggingface:build", parameters, inputs, {"architecture": name})


CATALOGUE = {
    model.name: model
    for model in (
        BuiltIn(
            "matmul",
            "one matrix product and a bias, the tutorial's first model",
            "basic:MatMulModel",
            136,
            (Input((8, 16)),),
        ),
        BuiltIn("mlp", "linear, ReLU, linear", "basic:Mlp", 874, (Input((4, 16)),)),
        BuiltIn(
            "attention",
            "transformer block: 4 heads, layer norm, GELU",
            "basic:TransformerBlock",
            49_984,
            (Input((1, 32, 64)),),
        ),
        BuiltIn("resnet18", "image classifier, 18 layers", "resnet:resnet18", 11_689_512, (IMAGE,)),
        BuiltIn("resnet50", "image classifier, 50 layers", "resnet:resnet50", 25_557_032, (IMAGE,)),
        BuiltIn("mobilenet_v2", "image classifier for phones", "mobilenet:MobileNetV2", 3_504_872, (IMAGE,)),
        BuiltIn("mobilenet_v3", "MobileNet V3-Large", "mobilenet:MobileNetV3", 5_483_032, (IMAGE,)),
        BuiltIn("efficientnet_b0", "image classifier", "efficientnet:EfficientNet", 5_288_548, (IMAGE,)),
        BuiltIn("vit_b16", "vision transformer, 12 layers", "vit:VisionTransformer", 86_567_656, (IMAGE,)),
        BuiltIn("convnext_t", "ConvNeXt Tiny, image classifier", "convnext:ConvNeXt", 28_589_128, (IMAGE,)),
        BuiltIn("swin_t", "Swin Tiny, shifted windows", "swin:SwinTransformer", 28_288_354, (IMAGE,)),
        BuiltIn("unet", "segmentation of images", "unet:UNet", 482_754, (Input((1, 3, 128, 128)),)),
        BuiltIn(
            "diffusion_unet",
            "noise of an image at a time step",
            "unet:DiffusionUNet",
            4_557_603,
            (Input((1, 3, 32, 32)), Input((1,), 1000)),
        ),
        BuiltIn("mamba", "state spaces, 4 layers, scanned by token", "mamba:Mamba", 597_632, (Input((1, 32), 1024),)),
        BuiltIn(
            "dlrm",
            "recommendations, 26 embedding tables",
            "recsys:Dlrm",
            50_419_521,
            (Input((128, 13)), Input((26, 128, 2), 30_000)),
        ),
        BuiltIn(
            "gnn", "graph attention, 2 layers", "graph:GraphNetwork", 17_816, (Input((512, 128)), Input((2, 4096), 512))
        ),
        BuiltIn("lstm", "two layers in both directions", "recurrent:lstm", 2_383_904, (Input((1, 32, 128)),)),
        BuiltIn("gru", "two layers in both directions", "recurrent:gru", 1_792_032, (Input((1, 32, 128)),)),
        _huggingface("bert_base", "encoder, 12 layers", 109_482_240, Input((1, 128), 30_522), Input((1, 128), 2)),
        _huggingface("distilbert", "encoder, 6 layers", 66_362_880, Input((1, 128), 30_522), Input((1, 128), 2)),
        _huggingface("gpt2", "language model, 12 layers", 124_439_808, Input((1, 128), 50_257)),
        _huggingface("llama", "language model, 6 layers", 86_910_720, Input((1, 64), 32_000)),
        _huggingface("llama_1b", "language model, 22 layers", 1_100_048_384, Input((1, 64), 32_000)),
        _huggingface("qwen2", "4 layers of Qwen2 0.5B", 195_785_088, Input((1, 64), 151_936)),
        _huggingface("mixtral", "mixture of 8 experts, 2 layers", 7_214_336, Input((1, 32), 1024)),
        _huggingface("t5_small", "encoder and decoder", 60_506_624, Input((1, 64), 32_128), Input((1, 32), 32_128)),
        _huggingface("whisper_tiny", "speech to text", 37_760_640, Input((1, 80, 3000)), Input((1, 16), 51_865)),
        _huggingface("clip", "text and image", 151_277_313, Input((2, 77), 49_408), IMAGE),
        _huggingface("sam_encoder", "4 layers of an encoder of images", 8_498_560, Input((1, 3, 512, 512))),
        _huggingface("mamba_hf", "state spaces, 2 layers", 1_400_576, Input((1, 32), 2048)),
    )
}


def load_target(target: str, seed: int = 0) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """Build what a TARGET names: a built-in model, ``file.py:function`` or ``hf:config.json``, a model of the
    transformers library; weights and inputs follow from ``seed``.

    The function takes no argument and returns ``(model, inputs)`` or ``(model, inputs, keyword_inputs)``. The model is
    an ``nn.Module`` or any function of tensors; inputs are one tensor, a tuple or list of arguments of any kind, or a
    dict of keyword arguments. The result takes positional arguments alone.

    Raises:
        UnknownNameError: no built-in model of that name.
        InputError: the file or the function cannot be used; says why.
    """
    if target.startswith(HUGGINGFACE):
        configured = importlib.import_module(f"{__name__}.configured")
        loaded: tuple[torch.nn.Module, tuple[Any, ...]] = configured.load(Path(target.removeprefix(HUGGINGFACE)), seed)
        return loaded
    file, colon, function = target.rpartition(":")
    if not colon and target.endswith(".py"):
        raise InputError(f"{target}: name the function that returns (model, inputs), as in {target}:make_model")
    if colon:
        return _from_file(Path(file), function, seed)
    if target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)
    return build(CATALOGUE[target], seed)


def check_target(target: str) -> None:
    """Refuse a TARGET that cannot be found, before anything slow is imported."""
    file, colon, _ = target.rpartition(":")
    if target.startswith(HUGGINGFACE):
        if not Path(target.removeprefix(HUGGINGFACE)).exists():
            raise InputError(f"{target}: no such file; hf: takes a config.json, or the folder that one is in")
    elif colon:
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; TARGET is a built-in model, file.py:function or hf:config.json")
    elif not target.endswith(".py") and target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)


def build(entry: BuiltIn, seed: int = 0) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A model in evaluation mode and example inputs for it, both by ``seed``; torch's generator stays as it was.

    Raises:
        MissingToolError: the model needs a library that is not installed.
    """
    import torch

    module_name, _, builder = entry.builder.partition(":")
    make: Callable[..., torch.nn.Module] = getattr(importlib.import_module(f"{__name__}.{module_name}"), builder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(**entry.sizes).eval()
        inputs = (torch.randn(i.shape) if i.below is None else torch.randint(i.below, i.shape) for i in entry.inputs)
        return model, tuple(inputs)


def _from_file(path: Path, function: str, seed: int) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; TARGET is a built-in model, file.py:function or hf:config.json")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = _import_file(path)
        except BrokenPipeError:
            raise  # whoever reads what the file prints is gone
        except (Exception, SystemExit) as error:
            raise InputError(f"{path}: importing it failed: {_told(error)}") from error
        make = getattr(module, function, None)
        if not callable(make):
            defined = [name for name, value in vars(module).items() if isinstance(value, FunctionType)]
            if not defined:
                raise InputError(f"{path}: defines no function, expected {function}() that returns {EXPECTED}")
            raise InputError(f"{path}: {UnknownNameError('function', function, defined)}")
        try:
            result = make()
        except BrokenPipeError:
            raise  # whoever reads what the file prints is gone
        except (Exception, SystemExit) as error:
            raise InputError(f"{path}:{function}() failed: {_told(error)}") from error
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

        def __deepcopy__(self, memo: dict[int, Any]) -> torch.nn.Module:
            return _call_of(_copied(function, memo), positional, keywords)

    Call.__name__ = getattr(function, "__name__", type(function).__name__)
    return Call().train(getattr(function, "training", False))


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy, where functions get copies of the variables that they close over; ``copy`` shares functions."""
    if not isinstance(value, FunctionType) or not value.__closure__:
        return copy.deepcopy(value, memo)
    if id(value) not in memo:
        cells = tuple(memo.setdefault(id(cell), CellType()) for cell in value.__closure__)
        made = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
        made.__kwdefaults__ = value.__kwdefaults__
        memo[id(value)] = made
        for cell, own in zip(cells, value.__closure__, strict=True):
            with contextlib.suppress(ValueError):  # a variable that has no value yet
                cell.cell_contents = _copied(own.cell_contents, memo)
    return memo[id(value)]


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


def _told(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {one_line(text)}{user_line(error)}"


def _shape_of(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(v).__name__ for v in value) + ")"
    return type(value).__name__
