"""Writes a base model directory that links to the weights instead of copying them.

`mlflow.transformers` loads an adapter's base model as it is: a head of another width would not fit, and the classes
would have no names. So the directory holds a config with the head's width and the class names, and links to the
weights. If the base model's own head has another width, the weights are copied with a new head.
"""

from __future__ import annotations

from pathlib import Path

from autorank.errors import AutorankError
from autorank.export.hf_metadata import export_tokenizer, set_head_metadata
from autorank.modeling import base_model
from autorank.modeling.adapter_file import Origin
from autorank.modeling.forward.greedy_decoding import greedy
from autorank.modeling.loading.auto_model import auto_class, load_config
from autorank.tasks.prompts.chat_encoding import text_ends

_WEIGHTS = (".safetensors", ".bin")


def write_base_reference(origin: Origin, folder: Path) -> Path:
    """Write a directory with the base model's config for this head and links to its weights.

    Args:
        origin: The base model and the head.
        folder: The directory to write; created if necessary.

    Returns:
        `folder`.

    Raises:
        AutorankError: The base model's weights are not on this machine.
    """
    from transformers.utils.hub import cached_file

    source = Path(str(cached_file(origin.model, "config.json"))).absolute().parent
    weights = [file for file in source.iterdir() if file.suffix in _WEIGHTS or file.name.endswith(".index.json")]
    if not weights:
        raise AutorankError(
            f"The weights of {origin.model!r} are not in {source}. Search with --model DIR, or export with --merge."
        )
    config = load_config(origin.model, origin.outputs)
    set_head_metadata(config, origin)
    config.architectures = [auto_class(origin.head, config)._model_mapping[type(config)].__name__]
    folder.mkdir(parents=True, exist_ok=True)
    if origin.replaces_head:
        base_model.load(origin.model, origin.outputs, head=origin.head).model.save_pretrained(folder)
        weights = []
    config.save_pretrained(folder)
    if not origin.outputs:
        greedy(text_ends(export_tokenizer(origin, None)), origin.pad_id, None).save_pretrained(folder)
    for file in weights:
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    return folder
