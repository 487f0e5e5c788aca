"""The examples for clusters: valid by Ray's schema, and with the fields that KubeRay reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer
import yaml

from autorank.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_cluster_launcher() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((EXAMPLES / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    head, workers = (config["available_node_types"][name] for name in (config["head_node_type"], "gpu"))
    assert head["resources"] == {"CPU": 0} and "InstanceMarketOptions" not in head["node_config"]
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} and workers["min_workers"] > 0
    assert "--volume /shared:/shared" in config["docker"]["run_options"]
    assert any("mount -t nfs4" in command for command in config["initialization_commands"])
    assert config["provider"]["region"] in next(c for c in config["initialization_commands"] if "EFS=" in c)


def test_kuberay_job() -> None:
    claim, job = yaml.safe_load_all((EXAMPLES / "kuberay-job.yaml").read_text())
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteMany"])
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert container["image"].split(":")[0] == "autorank"
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/shared"}]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert environment["RAY_JOB_STOP_SIGNAL"] == "SIGINT" and all(isinstance(v, str) for v in environment.values())
    options = parse_options(job["spec"]["entrypoint"])
    assert options["address"] == "auto" and options["runs"].is_relative_to("/shared")


def test_commands_in_comments() -> None:
    """The command lines in the example are valid."""
    lines = re.findall(r"autorank submit (?:--address \S+ )?-- (search .*)", (EXAMPLES / "cluster.yaml").read_text())
    assert [parse_options(f"python -m autorank {line}")["runs"] for line in lines] == [Path("/shared/runs")]


def parse_options(line: str) -> dict[str, Any]:
    """Parses the options of a command line as the command does."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "autorank"]
    group: Any = typer.main.get_command(app.app)
    context = group.commands[words[3]].make_context(words[3], words[4:])
    return dict(context.params)
