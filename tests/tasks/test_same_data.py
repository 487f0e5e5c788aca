"""The same rows as csv, parquet, dataset on the Hub and DataFrame give the same examples and the same training."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import tiny_models
from tests.tasks.loopback_hub import serve

SCRIPT = """
import json, sys
import pandas as pd
from autorank.errors import AutorankError
from autorank.options.calls import TrainCall
from autorank.training.run import TrainingRun

for line in sys.stdin:
    options = json.loads(line)
    if "frame" in options:
        options["data"] = pd.read_csv(options.pop("frame"))
    try:
        run = TrainingRun(TrainCall(method="lora", steps=2, batch_size=8, **options).spec())
        run.start()
        data = run.summary().data
        values = [evaluation.to_dict() for evaluation in run]
        for value in values:
            value.pop("seconds")
        sizes = [len(data.train), *map(len, data.validation.values())]
        print(json.dumps({"digest": data.digest, "labels": data.labels, "sizes": sizes, "evaluations": values}))
    except AutorankError as error:
        print(json.dumps({"error": " ".join(str(error).split())}))
"""
CARD = """---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*}
  - {split: test, path: plain/test-*}
- config_name: named
  data_files:
  - {split: dev, path: named/dev-*}
  - {split: train, path: named/train-*}
- config_name: rounds
  data_files:
  - {split: train_r1, path: named/train-*}
  - {split: dev_r1, path: named/dev-*}
  - {split: dev_r2, path: named/dev-*}
---
"""


def parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    frame = pd.DataFrame(tiny_models.rows(40))[["left", "right", "label"]]
    return frame.assign(label=frame["label"] + 1)


@pytest.fixture(scope="module")
def hub(rows: pd.DataFrame) -> dict[str, dict[str, bytes]]:
    features = {
        "left": {"dtype": "string", "_type": "Value"}, "right": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["zero", "bad", "good"], "_type": "ClassLabel"},
    }  # fmt: skip
    table = pa.Table.from_pandas(rows, preserve_index=False)
    named_table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return {
        "datasets/org/reviews": {
            "README.md": CARD.encode(),
            "plain/train-00000-of-00002.parquet": parquet(table.slice(0, 25)),
            "plain/train-00001-of-00002.parquet": parquet(table.slice(25)),
            "plain/test-00000-of-00001.parquet": parquet(table.slice(0, 9)),
            "named/train-00000-of-00001.parquet": parquet(named_table),
            "named/dev-00000-of-00001.parquet": parquet(named_table.slice(0, 7)),
        }
    }


def train(folder: Path, endpoint: str, *options: dict[str, object]) -> list[dict[str, object]]:
    """Train with each of the options in one process; the digest of the data and the evaluations, or the error."""
    common = {"text": "left,right", "label": "label", "model": str(folder / "bert"), "set": ["rank=2"]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": endpoint, "AUTORANK_CACHE": str(folder / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join(json.dumps({**common, **option}) for option in options),
        env=environment, capture_output=True, text=True, cwd=folder, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_same_training_from_every_source(
    rows: pd.DataFrame, hub: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    tiny_models.model("bert", tmp_path / "bert")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    rows.astype({"label": "float32"}).to_parquet(tmp_path / "rows.parquet")
    rows.to_json(tmp_path / "rows.json", orient="records")
    (tmp_path / "shards").mkdir()
    for i, part in enumerate((rows[:10], rows[10:])):
        part.to_csv(tmp_path / "shards" / f"train-{i:05}-of-00002.csv.gz", index=False, sep=";", encoding="utf-16")
    sources: list[dict[str, object]] = [
        {"data": "rows.csv"}, {"data": "rows.parquet"}, {"data": "rows.json"}, {"data": "shards"}, {"data": "shards/*"},
        {"data": "org/reviews:plain"}, {"frame": "rows.csv"},
    ]  # fmt: skip
    with serve(hub) as endpoint:
        reference, *results = train(tmp_path, endpoint, *sources)
    assert reference["sizes"] == [36, 4] and len(reference["evaluations"]) == 1  # type: ignore[arg-type]
    for source, result in zip(sources[1:], results, strict=True):
        assert result == reference, source


def test_splits_configurations_and_class_names_of_the_hub(hub: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    tiny_models.model("bert", tmp_path / "bert")
    with serve(hub) as endpoint:
        class_names, chosen_split, sliced_split, overlap, rounds, split, configuration, column, absent = train(
            tmp_path, endpoint,
            {"data": "org/reviews:named"},
            {"data": "org/reviews:plain", "eval_split": "test"},
            {"data": "org/reviews:plain", "train_split": "train[:20]", "eval_split": "train[20:]"},
            {"data": "org/reviews:plain", "eval_split": "train[20:]"},
            {"data": "org/reviews:rounds"},
            {"data": "org/reviews:plain", "eval_split": "dev"},
            {"data": "org/reviews"},
            {"data": "org/reviews:plain", "label": "lable"},
            {"data": "org/absent"},
        )  # fmt: skip
    assert class_names["sizes"] == [40, 7] and str(class_names["labels"]).startswith("label: 2 classes: bad ")
    assert chosen_split["sizes"] == [40, 9] and sliced_split["sizes"] == [20, 20]
    assert "--eval-split train[20:] shares rows with the training split, train." in str(overlap["error"])
    assert "has several validation splits: dev_r1, dev_r2. Choose one with --eval-split" in str(rounds["error"])
    assert "split 'dev'" in str(split["error"])
    assert "owner/name:configuration" in str(configuration["error"]) and "plain" in str(configuration["error"])
    assert "split 'train' of org/reviews (plain): Unknown column 'lable'. Did you mean 'label'?" in str(column["error"])
    assert "There is no dataset 'org/absent', neither as a local" in str(absent["error"])
