"""Does a configuration of the transformers library become a model that runs, and a bad one an error that says why?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from acalsim_backend import simulate
from acalsim_backend.errors import InputError
from acalsim_backend.models import load_target

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 1, "vocab_size": 99}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "language": {**LLAMA, **SMALL},
    "image": {"model_type": "vit", "architectures": ["ViTModel"], "image_size": 32, "patch_size": 16, **SMALL},
    "both": {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "text_config": {"vocab_size": 99, "max_position_embeddings": 8, **SMALL},
        "vision_config": {"image_size": 32, "patch_size": 16, **SMALL},
    },
    "encoder and decoder": {
        "model_type": "t5", "architectures": ["T5Model"], "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1,
        "num_heads": 2, "vocab_size": 99,
    },
}  # fmt: skip
SHAPES = {
    "language": [(1, 64)],
    "image": [(1, 3, 32, 32)],
    "both": [(1, 8), (1, 3, 32, 32)],
    "encoder and decoder": [(1, 64), (1, 16)],
}


def write(folder: Path, values: object) -> str:
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return f"hf:{folder}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_does_a_configuration_run_with_inputs_of_its_sizes(name: str, tmp_path: Path) -> None:
    model, inputs = load_target(write(tmp_path, CONFIGURATIONS[name]))
    assert [tuple(i.shape) for i in inputs] == SHAPES[name]
    with torch.no_grad():
        expected = model(*inputs)
        outputs, report = simulate(model, inputs)
    assert report.fallbacks == ()
    torch.testing.assert_close(tuple(outputs), expected, rtol=1e-4, atol=1e-4)


def test_are_weights_of_the_element_type_and_the_seed(tmp_path: Path) -> None:
    target = write(tmp_path, {**CONFIGURATIONS["language"], "dtype": "bfloat16"})
    (model, inputs), (again, _), (other, _) = (load_target(target, seed) for seed in (1, 1, 2))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() is torch.float32
    same, different = (m.state_dict()["model.lm_head.weight"] for m in (again, other))
    assert torch.equal(model.state_dict()["model.lm_head.weight"], same)
    assert not torch.equal(same, different)
    assert torch.equal(inputs[0], load_target(f"{target}/config.json", 1)[1][0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected the keys model_type and architectures"),
        ({"model_type": "llama"}, "expected the keys model_type and architectures"),
        ({"model_type": "lama", "architectures": ["X"]}, "ValueError: Unrecognized model identifier: lama"),
        ({"model_type": "llama", "architectures": ["Llama"]}, "architectures names Llama, which transformers"),
        ({**LLAMA, **SMALL, "hidden_act": "gelv"}, "LlamaForCausalLM cannot be built: KeyError"),
    ],
)
def test_does_a_bad_configuration_say_why(values: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_target(write(tmp_path, values))


def test_is_what_is_no_json_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: not JSON"):
        load_target(f"hf:{tmp_path}")
