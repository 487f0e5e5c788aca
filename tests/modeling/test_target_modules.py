"""Target layers of the real architectures."""

from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.modeling import base_model, target_modules
from tests import families, tiny_models

# Layers of a block: query and value, other attention layers, feed-forward layers.
BERT = "attention.self.query attention.self.value", "attention.self.key attention.output.dense", (
    "intermediate.dense output.dense"
)  # fmt: skip
LLAMA = "self_attn.q_proj self_attn.v_proj", "self_attn.k_proj self_attn.o_proj", (
    "mlp.gate_proj mlp.up_proj mlp.down_proj"
)  # fmt: skip
BART = "self_attn.q_proj self_attn.v_proj", "self_attn.k_proj self_attn.out_proj", "fc1 fc2"
T5 = "SelfAttention.q SelfAttention.v", "SelfAttention.k SelfAttention.o", "DenseReluDense.wi DenseReluDense.wo"
GATED = *T5[:2], "DenseReluDense.wi_0 DenseReluDense.wi_1 DenseReluDense.wo"
GROWN = "mlp.dense_h_to_4h mlp.dense_4h_to_h"


def with_cross(block: tuple[str, str, str], self_attention: str, cross_attention: str) -> tuple[str, str, str]:
    """The decoder's block, which also has cross-attention."""
    return (*(f"{part} {part.replace(self_attention, cross_attention)}" for part in block[:2]), block[2])


# family -> names of its blocks and their layers
BLOCKS = {
    "bert": {"bert.encoder.layer": BERT},
    "roberta": {"roberta.encoder.layer": BERT},
    "electra": {"electra.encoder.layer": BERT},
    "deberta-v2": {
        "deberta.encoder.layer": (
            "attention.self.query_proj attention.self.value_proj", "attention.self.key_proj attention.output.dense",
            BERT[2],
        )
    },
    "distilbert": {
        "distilbert.transformer.layer": (
            "attention.q_lin attention.v_lin", "attention.k_lin attention.out_lin", "ffn.lin1 ffn.lin2"
        )
    },
    "modernbert": {"model.layers": ("attn.Wqkv", "attn.Wo", "mlp.Wi mlp.Wo")},
    "gpt2": {"transformer.h": ("attn.c_attn", "attn.c_proj", "mlp.c_fc mlp.c_proj")},
    "llama": {"model.layers": LLAMA},
    "mistral": {"model.layers": LLAMA},
    "qwen2": {"model.layers": LLAMA},
    "qwen3": {"model.layers": LLAMA},
    "bart": {"model.encoder.layers": BART, "model.decoder.layers": with_cross(BART, "self_attn", "encoder_attn")},
    "t5": {
        "transformer.encoder.block.layer": T5,
        "transformer.decoder.block.layer": with_cross(T5, "SelfAttention", "EncDecAttention"),
    },
    "t5-gated": {
        "transformer.encoder.block.layer": GATED,
        "transformer.decoder.block.layer": with_cross(GATED, "SelfAttention", "EncDecAttention"),
    },
    "gpt-neox": {"gpt_neox.layers": ("attention.query_key_value", "attention.dense", GROWN)},
    "bloom": {"transformer.h": ("self_attention.query_key_value", "self_attention.dense", GROWN)},
    "phi3": {"model.layers": ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj mlp.down_proj")},
    "albert": {
        "albert.encoder.albert_layer_groups.albert_layers": (
            "attention.query attention.value", "attention.key attention.dense", "ffn ffn_output"
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("family", BLOCKS)
def test_sets_are_found_in_every_family(family: str) -> None:
    model = families.meta_model(family)
    parts: list[set[str]] = [set(), set(), set()]
    for block, names in BLOCKS[family].items():
        for part, ends in zip(parts, names, strict=True):
            part |= {f"{block}.{end}" for end in ends.split()}
    qv, other_attention, ffn = parts
    expected = {
        "attention-qv": qv, "query,value": qv, "attention": qv | other_attention, "ffn": ffn,
        "attention-qv, ffn": qv | ffn, "all-linear": qv | other_attention | ffn,
    }  # fmt: skip
    blocks = 1 if family == "albert" else families.LAYERS  # ALBERT's blocks share one
    for targets, kinds in expected.items():
        layers = target_modules.find(model, targets)
        assert {target_modules.kind(name) for name in layers} == kinds, targets
        assert len(layers) == len(kinds) * blocks


def test_a_part_of_a_fused_layer_is_the_whole_layer() -> None:
    model = families.meta_model("gpt2")
    assert (
        target_modules.find(model, "query")
        == target_modules.find(model, "key")
        == target_modules.find(model, "attn.c_attn")
    )


@pytest.mark.parametrize(
    ("architecture", "query_value", "all_linear"),
    [("bert", 2, 6), ("roberta", 2, 6), ("deberta-v2", 2, 6), ("llama", 2, 7)],
)
def test_layers_found(architecture: str, query_value: int, all_linear: int, tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model(architecture, tmp_path / "m"), outputs=2)
    assert len(target_modules.find(model, "query,value")) == query_value * tiny_models.LAYERS
    assert len(target_modules.find(model, "all-linear")) == all_linear * tiny_models.LAYERS


def test_conv1d_shapes(tmp_path: Path) -> None:
    shapes = target_modules.shapes(base_model.meta_model(tiny_models.model("gpt2", tmp_path / "m")), "attn.c_attn")
    assert set(shapes.values()) == {(tiny_models.HIDDEN, 3 * tiny_models.HIDDEN)}


def test_names_match_whole_parts_only(tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "m"), outputs=2)
    kinds = {target_modules.kind(name) for name in target_modules.find(model, "output.dense")}
    assert kinds == {"bert.encoder.layer.attention.output.dense", "bert.encoder.layer.output.dense"}
    assert {target_modules.kind(name) for name in target_modules.find(model, "attention.output.dense")} == {
        "bert.encoder.layer.attention.output.dense"
    }


def test_without_a_match_the_error_lists_the_layers(tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "m"), outputs=2)
    with pytest.raises(AutorankError, match=r"'quary' matches no linear layer.*attention\.self\.query"):
        target_modules.find(model, "quary")
