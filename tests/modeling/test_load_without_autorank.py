"""Exported models load in an environment that contains only transformers, peft and their dependencies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from tests.export.test_peft_export import write_adapter

NEEDED = ("transformers", "peft", "torch")
SCRIPT = """
import importlib.util, json, sys
from pathlib import Path

for name in ("autorank", "ray", "mlflow", "datasets", "optuna"):
    assert importlib.util.find_spec(name) is None, name
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

logits = {}
for folder in map(Path, sys.argv[1:]):
    ids = torch.tensor(json.loads((folder / "ids.json").read_text()))
    for form in ("peft", "padded", "merged"):
        if form == "merged":
            model = AutoModelForSequenceClassification.from_pretrained(folder / form)
            assert model.config.id2label == {0: "no", 1: "yes"}
        else:
            base = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=2)
            base.config.pad_token_id = 0
            model = PeftModel.from_pretrained(base, folder / form)
        assert AutoTokenizer.from_pretrained(folder / form)("w1 w2")["input_ids"] == [2, 5, 6, 3]
        with torch.no_grad():
            logits[f"{folder.name} {form}"] = model.eval()(input_ids=ids).logits.tolist()
print(json.dumps(logits))
"""


def link_packages(folder: Path) -> None:
    """Create links to the packages in `NEEDED` and their dependencies, and to no others."""
    folder.mkdir()
    pending, visited = list(NEEDED), set()
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in visited:
            continue
        visited.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # needed on other systems
            continue
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
        tops = {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(package.locate_file(top))).resolve())


@pytest.mark.parametrize("installer", ["linked", pytest.param("pip", marks=pytest.mark.slow)])
def test_bare_adapter_needs_no_autorank(installer: str, tmp_path: Path) -> None:
    expected: dict[str, torch.Tensor] = {}
    for architecture in ("bert", "gpt2"):
        folder = tmp_path / architecture
        folder.mkdir()
        file, ids, logits = write_adapter(architecture, folder)
        (folder / "ids.json").write_text(json.dumps(ids.tolist()))
        write_peft(file, folder / "peft")
        write_peft(file, folder / "padded", pad=True)
        write_merged(file, folder / "merged")
        expected |= {f"{architecture} {form}": logits for form in ("peft", "padded", "merged")}
    venv.create(tmp_path / "venv", with_pip=installer == "pip")
    python = tmp_path / "venv" / "bin" / "python"
    if installer == "pip":
        versions = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in NEEDED]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *versions], check=True)
    else:
        link_packages(tmp_path / "packages")
        (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        (packages / "linked.pth").write_text(f"{tmp_path / 'packages'}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.run(
        [python, "-c", SCRIPT, tmp_path / "bert", tmp_path / "gpt2"],
        cwd=tmp_path, env=environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    actual = json.loads(process.stdout.splitlines()[-1])
    assert set(actual) == set(expected)
    for name, logits in expected.items():
        torch.testing.assert_close(torch.tensor(actual[name]), logits, rtol=0, atol=1e-5)
