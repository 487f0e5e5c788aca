"""Exported models in an environment of their own that has nothing but transformers, peft and what these need."""

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
from tests.export.test_peft_export import adapted

NEEDED = ("transformers", "peft", "torch")
SCRIPT = """
import importlib.util, json, sys
from pathlib import Path

for name in ("autorank", "ray", "mlflow", "datasets", "optuna"):
    assert importlib.util.find_spec(name) is None, name
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

found = {}
for place in map(Path, sys.argv[1:]):
    ids = torch.tensor(json.loads((place / "ids.json").read_text()))
    for form in ("peft", "padded", "merged"):
        if form == "merged":
            model = AutoModelForSequenceClassification.from_pretrained(place / form)
            assert model.config.id2label == {0: "no", 1: "yes"}
        else:
            base = AutoModelForSequenceClassification.from_pretrained(place / "model", num_labels=2)
            base.config.pad_token_id = 0
            model = PeftModel.from_pretrained(base, place / form)
        assert AutoTokenizer.from_pretrained(place / form)("w1 w2")["input_ids"] == [2, 5, 6, 3]
        with torch.no_grad():
            found[f"{place.name} {form}"] = model.eval()(input_ids=ids).logits.tolist()
print(json.dumps(found))
"""


def linked(folder: Path) -> None:
    """Links to the packages that `NEEDED` need, and to no others."""
    folder.mkdir()
    wanted, seen = list(NEEDED), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # needed on other systems
            continue
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
        tops = {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(package.locate_file(top))).resolve())


@pytest.mark.parametrize("how", ["linked", pytest.param("pip", marks=pytest.mark.slow)])
def test_bare_adapter_needs_no_autorank(how: str, tmp_path: Path) -> None:
    expected: dict[str, torch.Tensor] = {}
    for architecture in ("bert", "gpt2"):
        place = tmp_path / architecture
        place.mkdir()
        file, ids, logits = adapted(architecture, place)
        (place / "ids.json").write_text(json.dumps(ids.tolist()))
        write_peft(file, place / "peft")
        write_peft(file, place / "padded", pad=True)
        write_merged(file, place / "merged")
        expected |= {f"{architecture} {form}": logits for form in ("peft", "padded", "merged")}
    venv.create(tmp_path / "venv", with_pip=how == "pip")
    python = tmp_path / "venv" / "bin" / "python"
    if how == "pip":
        versions = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in NEEDED]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *versions], check=True)
    else:
        linked(tmp_path / "packages")
        (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        (packages / "linked.pth").write_text(f"{tmp_path / 'packages'}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", SCRIPT, tmp_path / "bert", tmp_path / "gpt2"],
        cwd=tmp_path, env=kept | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(expected)
    for name, logits in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), logits, rtol=0, atol=1e-5)
