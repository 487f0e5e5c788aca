"""Target layers of the true architectures."""

from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.modeling import base, targets
from tests import tiny


@pytest.mark.parametrize(
    ("architecture", "query_value", "all_linear"),
    [("bert", 2, 6), ("roberta", 2, 6), ("deberta-v2", 2, 6), ("llama", 2, 7)],
)
def test_layers_found(architecture: str, query_value: int, all_linear: int, tmp_path: Path) -> None:
    model = base.meta_model(tiny.model(architecture, tmp_path / "m"), outputs=2)
    assert len(targets.find(model, "query,value")) == query_value * tiny.LAYERS
    assert len(targets.find(model, "all-linear")) == all_linear * tiny.LAYERS


def test_conv1d_shapes(tmp_path: Path) -> None:
    shapes = targets.shapes(base.meta_model(tiny.model("gpt2", tmp_path / "m")), "attn.c_attn")
    assert set(shapes.values()) == {(tiny.HIDDEN, 3 * tiny.HIDDEN)}


def test_names_match_whole_parts_only(tmp_path: Path) -> None:
    model = base.meta_model(tiny.model("bert", tmp_path / "m"), outputs=2)
    kinds = {targets.kind(name) for name in targets.find(model, "output.dense")}
    assert kinds == {"bert.encoder.layer.attention.output.dense", "bert.encoder.layer.output.dense"}
    assert {targets.kind(name) for name in targets.find(model, "attention.output.dense")} == {
        "bert.encoder.layer.attention.output.dense"
    }


def test_no_match_lists_what_there_is(tmp_path: Path) -> None:
    model = base.meta_model(tiny.model("bert", tmp_path / "m"), outputs=2)
    with pytest.raises(AutorankError, match=r"'quary' matches no linear layer.*attention\.self\.query"):
        targets.find(model, "quary")
