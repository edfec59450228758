"""Small sizes of the catalogue's models: every kind of layer that the full size has, in seconds."""

from __future__ import annotations

import dataclasses

from acalsim_backend.models import CATALOGUE, BuiltIn, Input


def _tiny(name: str, *inputs: Input, **sizes: object) -> BuiltIn:
    entry = CATALOGUE[name]
    return dataclasses.replace(entry, inputs=inputs, sizes={**entry.sizes, **sizes})


def _image(pixels: int) -> Input:
    return Input((2, 3, pixels, pixels))


_TEXT = Input((2, 7), 96)
_LLAMA = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}

TINY = {
    entry.name: entry
    for entry in (
        _tiny(
            "mobilenet_v2",
            _image(32),
            width=0.25,
            stages=((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 1)),
            features=48,
            classes=10,
        ),
        _tiny(
            "mobilenet_v3",
            _image(32),
            width=0.5,
            blocks=((3, 16, 16, False, False, 1), (5, 72, 40, True, False, 2), (3, 120, 40, True, True, 1)),
            features=48,
            classes=10,
        ),
        _tiny(
            "efficientnet_b0",
            _image(32),
            width=0.25,
            stages=((1, 3, 1, 16, 1), (6, 5, 2, 24, 2)),
            features=48,
            classes=10,
        ),
        _tiny("vit_b16", _image(24), image=24, patch=8, width=32, depth=1, heads=4, hidden=64, classes=10),
        _tiny("convnext_t", _image(32), widths=(16, 24), depths=(1, 2), classes=10),
        _tiny("swin_t", _image(40), width=16, depths=(2, 2), heads=(2, 4), window=4, classes=10),
        _tiny("unet", _image(16), widths=(4, 8, 12), classes=3),
        _tiny("diffusion_unet", _image(8), Input((2,), 1000), widths=(8, 16), heads=2, groups=4, repeat=1),
        _tiny("mamba", Input((2, 5), 32), vocabulary=32, width=16, depth=1, states=4),
        _tiny(
            "dlrm",
            Input((3, 5)),
            Input((4, 3, 2), 20),
            dense=5,
            tables=4,
            rows=20,
            width=8,
            bottom=(16,),
            top=(16,),
        ),
        _tiny("gnn", Input((11, 6)), Input((2, 40), 11), features=6, hidden=8, heads=2, classes=3),
        _tiny("lstm", Input((2, 5, 6)), inputs=6, hidden=8, layers=2, labels=3),
        _tiny("gru", Input((2, 5, 6)), inputs=6, hidden=8, layers=2, labels=3),
        _tiny(
            "bert_base",
            _TEXT,
            Input((2, 7), 2),
            vocab_size=96,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=48,
        ),
        _tiny("distilbert", _TEXT, Input((2, 7), 2), vocab_size=96, dim=32, n_layers=1, n_heads=4, hidden_dim=48),
        _tiny(
            "gpt2", _TEXT, vocab_size=96, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        ),
        _tiny("llama", _TEXT, **_LLAMA),
        _tiny("qwen2", _TEXT, **{**_LLAMA, "num_hidden_layers": 1}),
        _tiny("mixtral", _TEXT, **{**_LLAMA, "num_hidden_layers": 1, "num_local_experts": 4}),
        _tiny(
            "t5_small",
            _TEXT,
            Input((2, 4), 96),
            vocab_size=96,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=1,
            num_heads=4,
        ),
        _tiny(
            "whisper_tiny",
            Input((1, 8, 24)),
            Input((1, 4), 96),
            vocab_size=96,
            num_mel_bins=8,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            max_source_positions=12,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        _tiny(
            "clip",
            _TEXT,
            _image(16),
            projection_dim=16,
            text_config={
                "vocab_size": 96,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "max_position_embeddings": 16,
                "bos_token_id": 94,
                "eos_token_id": 95,
            },
            vision_config={
                "image_size": 16,
                "patch_size": 8,
                "hidden_size": 24,
                "intermediate_size": 48,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
            },
        ),
        _tiny(
            "sam_encoder",
            Input((1, 3, 48, 48)),
            image_size=48,
            patch_size=8,
            hidden_size=16,
            output_channels=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            global_attn_indexes=[1],
            window_size=4,
            mlp_dim=32,
            num_pos_feats=8,
        ),
        _tiny("mamba_hf", Input((2, 5), 96), vocab_size=96, hidden_size=16, state_size=4, num_hidden_layers=2),
    )
}
