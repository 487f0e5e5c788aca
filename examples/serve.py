"""An exported adapter behind HTTP on this machine, with FastAPI (MLflow brings it along).

python examples/serve.py quickstart-adapter --port 8000
curl -X POST http://127.0.0.1:8000/predict -H 'content-type: application/json' -d '{"first": "...", "second": "..."}'

One process and one request at a time: enough to try it. vLLM, TGI and the like serve PEFT adapters of language models;
`autorank export --merge` makes a plain model for whatever serves those.
"""

from __future__ import annotations

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from load_with_peft import LABELS, load
from pydantic import BaseModel


class Pair(BaseModel):
    """A request."""

    first: str
    second: str


def serve(folder: str) -> FastAPI:
    """The adapter as an application."""
    model, tokenizer = load(folder)
    app = FastAPI(title=folder)

    @app.post("/predict")
    def predict(pair: Pair) -> dict[str, float]:
        """Label -> its probability."""
        with torch.inference_mode():
            (logits,) = model(**tokenizer(pair.first, pair.second, truncation=True, return_tensors="pt")).logits
        return dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True))

    return app


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Serve an exported adapter on this machine.")
    options.add_argument("adapter", nargs="?", default="quickstart-adapter")
    options.add_argument("--port", type=int, default=8000)
    asked = options.parse_args()
    uvicorn.run(serve(asked.adapter), host="127.0.0.1", port=asked.port, log_level="warning")
