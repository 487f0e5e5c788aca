"""A search on a Ray cluster, as a job of it or on one of its nodes; without --address on this machine.

python examples/cluster_job.py --address auto --runs /shared/runs
ray job submit --address http://HEAD:8265 --working-dir examples -- python cluster_job.py --address auto --runs ...

`ray job submit` sends this folder alone, so autorank must be installed on the cluster's nodes. `autorank submit` sends
a search as a job too, and brings autorank along: its dependencies suffice there. The folder of runs is on storage that
all nodes share; where there is none, trials write to object storage: --storage s3://bucket/runs.
"""

from __future__ import annotations

import argparse

import autorank


def main() -> None:
    options = argparse.ArgumentParser(description="A search on a Ray cluster.")
    options.add_argument("--address", help="auto, or HEAD:6379")
    options.add_argument("--runs", default="runs")
    options.add_argument("--storage")
    options.add_argument("--task", default="demo")
    options.add_argument("--trials", type=int, default=3)
    options.add_argument("--steps", type=int)
    asked = options.parse_args()
    search = autorank.search(
        method=["lora-drop", "increlora"],
        name=f"cluster-{asked.task}",
        max_retries=5,  # nodes may go away: trials go on from their last evaluation, on others
        time_budget="8h",
        **vars(asked),
    )
    knee = search.pick()
    print(f"{len(search.trials)} trials; the knee has {knee.adapter_params:,} parameters and scores {knee.score:.4f}")


if __name__ == "__main__":
    main()
