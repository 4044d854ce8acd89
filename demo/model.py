"""The bundled model's shape and its first weights."""

from __future__ import annotations

import torch
from transformers import ZayaConfig, ZayaForCausalLM

from demo.tokenizer import BOS, IM_END, PAD, VOCABULARY

ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}


def demo_config() -> ZayaConfig:
    """ZAYA with every input width of a quantizable matrix a multiple of 64; a short rope base for short texts."""
    return ZayaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=16,
        moe_intermediate_size=64,
        router_hidden_size=64,
        max_position_embeddings=4096,
        rope_parameters={"hybrid": dict(ROPE), "hybrid_sliding": dict(ROPE)},
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=IM_END,
    )


@torch.no_grad()
def initialize(model: ZayaForCausalLM, seed: int) -> None:
    """Draw the first weights: fan-in scaled, with experts louder because top-1 weights begin near 1/17."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if name.endswith("qk_norm.temp"):
            weight.fill_(1.5)
        elif name.endswith("embed_tokens.weight"):
            weight.normal_(0.0, 0.06, generator=generator)
        elif "conv_qk" in name and name.endswith("weight"):
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
        elif weight.dim() > 1:
            gain = 3.0 if name.endswith("experts.down_proj") else 1.0
            weight.normal_(0.0, gain * weight.shape[-1] ** -0.5, generator=generator)
        elif name.endswith("bias"):
            weight.zero_()


def build_model(seed: int) -> ZayaForCausalLM:
    model = ZayaForCausalLM._from_config(demo_config(), attn_implementation="eager")
    initialize(model, seed)
    return model
