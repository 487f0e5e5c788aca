"""Run a search and export an adapter from its front; needs no network, GPU or data.

python examples/quickstart.py
"""

from __future__ import annotations

import autorank


def main() -> None:
    search = autorank.search(method="lora-drop", task="demo", trials=3, steps=40, eval_every=20, name="quickstart")
    print(search.front)
    print(search.to_frame()[["adapter_params", "score", "settings.threshold", "settings.learning_rate"]])
    search.export(to="quickstart-adapter", knee=True)  # for peft.PeftModel.from_pretrained
    print("report:", search.report())


if __name__ == "__main__":
    main()
