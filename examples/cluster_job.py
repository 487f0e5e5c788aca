"""A search on a Ray cluster, as a Ray job or on one of its nodes; without --address on this machine.

python examples/cluster_job.py --address auto --runs /shared/runs
ray job submit --address http://HEAD:8265 --working-dir examples -- python cluster_job.py --address auto --runs ...

`ray job submit` uploads only this directory, so autorank must be installed on the cluster's nodes. `autorank submit`
also submits a search as a job, and uploads autorank: only its dependencies must be installed. --runs must be on storage
that all nodes share. Without shared storage, trials can write to object storage: --storage s3://bucket/runs.
"""

from __future__ import annotations

import argparse

import autorank


def main() -> None:
    parser = argparse.ArgumentParser(description="A search on a Ray cluster.")
    parser.add_argument("--address", help="auto, or HEAD:6379")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--storage")
    parser.add_argument("--task", default="demo")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    search = autorank.search(
        method=["lora-drop", "increlora"],
        name=f"cluster-{arguments.task}",
        max_retries=5,  # nodes may go away: trials go on from their last evaluation, on others
        time_budget="8h",
        **vars(arguments),
    )
    knee = search.pick()
    print(f"{len(search.trials)} trials; the knee has {knee.adapter_params:,} parameters and scores {knee.score:.4f}")


if __name__ == "__main__":
    main()
