"""How a machine is shared between trials."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.searching.ray.resources import Resources, cluster_nodes, keep_within, share, this_machine


@pytest.mark.parametrize(
    ("available", "options", "expected"),
    [
        ({"CPU": 2}, {}, Resources(2, 1, 0)),
        ({"CPU": 8}, {}, Resources(4, 2, 0)),
        ({"CPU": 64}, {}, Resources(16, 4, 0)),
        ({"CPU": 16}, {}, Resources(4, 4, 0)),
        ({"CPU": 16}, {"concurrency": 3}, Resources(3, 5, 0)),
        ({"CPU": 16, "GPU": 2}, {}, Resources(2, 8, 1)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.25}, Resources(8, 2, 0.25)),
        ({"CPU": 4, "GPU": 2}, {"gpus_per_trial": 0.25}, Resources(4, 1, 0.25)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0}, Resources(4, 4, 0)),
        ({"CPU": 16, "GPU": 5}, {"gpus_per_trial": 2}, Resources(2, 8, 2)),
        ({"CPU": 16}, {"workers": 2}, Resources(4, 2, 0, 2)),
        ({"CPU": 16, "GPU": 4}, {"workers": 2}, Resources(2, 4, 1, 2)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 1, "workers": 2}, Resources(2, 4, 0.5, 2)),
        ({"CPU": 2}, {"lanes": 3}, Resources(3, 2, 0, lanes=3)),
        ({"CPU": 2}, {"lanes": 8}, Resources(8, 2, 0, lanes=8)),
        ({"CPU": 64}, {"lanes": 3}, Resources(15, 12, 0, lanes=3)),  # five packs, no more trials than without lanes
        ({"CPU": 8}, {"lanes": 4, "concurrency": 6}, Resources(6, 4, 0, lanes=4)),  # two packs
        ({"CPU": 16, "GPU": 2}, {"lanes": 8}, Resources(16, 8, 1, lanes=8)),  # a pack on each GPU
        ({"CPU": 16, "GPU": 2}, {"lanes": 4, "gpus_per_trial": 0.5}, Resources(16, 4, 0.5, lanes=4)),
        ({"CPU": 16, "GPU": 2}, {"gpus_per_trial": 0.4}, Resources(4, 4, 0.4)),  # two on each, not five on both
    ],
)
def test_share(available, options, expected):
    assert share([available], **options) == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"gpus_per_trial": 2}, "--gpus-per-trial 2 needs 2 GPUs, but only 1 are available"),
        ({"gpus_per_trial": 0.5, "concurrency": 3}, "1 GPUs at 0.5 a trial are enough for 2 trials"),
        ({"workers": 2}, "--workers-per-trial 2 needs 2 GPUs, but only 1 are available"),
        ({"gpus_per_trial": 0, "workers": 9}, "--workers-per-trial 9 is too many: the nodes can run at most 8 workers"),
        ({"gpus_per_trial": 0, "concurrency": 9}, "8 CPUs are enough for 8 trials"),
        ({"gpus_per_trial": 0, "concurrency": 33, "lanes": 4}, "8 CPUs are enough for 32 trials"),
    ],
)
def test_more_resources_than_available_are_refused(options, problem):
    with pytest.raises(AutorankError, match=problem):
        share([{"CPU": 8, "GPU": 1}], **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"gpus_per_trial": 1.5}, "--gpus-per-trial 1.5: use a whole number of GPUs for each worker"),
        ({"gpus_per_trial": 3, "workers": 2}, "--gpus-per-trial 3 gives each of 2 workers 1.5 GPUs: use a whole"),
    ],
)
def test_workers_have_whole_gpus_or_a_part_of_one(options, problem):
    with pytest.raises(AutorankError, match=problem):
        share([{"CPU": 8, "GPU": 4}], **options)


HEAD, GPU_NODE = {"CPU": 16}, {"CPU": 4, "GPU": 1}


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([HEAD, GPU_NODE, GPU_NODE], {}, Resources(2, 4, 1)),  # the head's CPUs have no GPU on their node
        ([HEAD, GPU_NODE, GPU_NODE], {"gpus_per_trial": 0}, Resources(6, 4, 0)),  # 4 on the head, 1 on each other
        ([HEAD, GPU_NODE, GPU_NODE], {"gpus_per_trial": 0, "concurrency": 8}, Resources(8, 2, 0)),  # 8 on the head
        ([HEAD, GPU_NODE, GPU_NODE], {"gpus_per_trial": 0, "concurrency": 7}, Resources(7, 3, 0)),  # 5, 1 and 1
        ([HEAD, GPU_NODE, GPU_NODE], {"gpus_per_trial": 0.5}, Resources(4, 2, 0.5)),
        ([HEAD, GPU_NODE, GPU_NODE], {"workers": 2}, Resources(1, 4, 1, 2)),  # a worker on each
        ([HEAD, GPU_NODE, GPU_NODE], {"concurrency": 1}, Resources(1, 4, 1)),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 16, "GPU": 1}], {}, Resources(2, 2, 1)),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 16, "GPU": 1}], {"concurrency": 1}, Resources(1, 16, 1)),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 3}], {"gpus_per_trial": 2}, Resources(3, 4, 2)),  # 2 and 1, not 3.5
        ([{"CPU": 1, "GPU": 4}, {"CPU": 8, "GPU": 1}], {}, Resources(2, 1, 1)),  # 1 by its CPU, 1 by its GPU
        ([{"CPU": 2}] * 10, {}, Resources(5, 2, 0)),
        ([{"CPU": 2}] * 2, {"concurrency": 1}, Resources(1, 2, 0)),
        ([{"CPU": 3}] * 2, {}, Resources(4, 1, 0)),
        ([{"CPU": 3}] * 2, {"workers": 2, "concurrency": 1}, Resources(1, 3, 0, 2)),
        ([{"memory": 1.0}, {"CPU": 4}], {}, Resources(4, 1, 0)),  # a head without CPUs
        ([{"memory": 1.0}, GPU_NODE], {}, Resources(1, 4, 1)),
    ],
)
def test_nodes_of_a_cluster(nodes, options, expected):
    assert share(nodes, **options) == expected


@pytest.mark.parametrize(
    ("nodes", "options", "problem"),
    [
        ([GPU_NODE, GPU_NODE], {"gpus_per_trial": 2}, "1 CPU and 2 GPU that .* Available: 4 CPUs, 1 GPUs. Use a lower"),
        ([HEAD, {"GPU": 2}], {}, "1 CPU and 1 GPU that .* Available: 0 CPUs, 2 GPUs; 16 CPUs, 0 GPUs. Use"),
        ([{"memory": 1.0}], {}, "No node of the cluster has the 1 CPU that .* 0 CPUs, 0 GPUs. Wait until"),
        ([{"CPU": 1, "GPU": 4}, {"CPU": 8, "GPU": 1}], {"concurrency": 3}, "5 GPUs at 1 a trial are enough for 2"),
        ([HEAD, GPU_NODE, GPU_NODE], {"concurrency": 3}, "2 GPUs at 1 a trial are enough for 2 trials"),
        ([{"CPU": 3}] * 2, {"workers": 7}, "--workers-per-trial 7 is too many: the nodes can run at most 6 workers"),
    ],
)
def test_more_resources_than_the_nodes_have_are_refused(nodes, options, problem):
    with pytest.raises(AutorankError, match=problem):
        share(nodes, **options)


def test_lost_nodes_have_no_resources(monkeypatch):
    nodes = [{"Alive": True, "Resources": HEAD}, {"Alive": False, "Resources": GPU_NODE}]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert cluster_nodes() == [HEAD]


def test_this_machine():
    (machine,) = this_machine()
    assert machine["CPU"] >= 1
    assert str(Resources(1, 2, 0)) == "1 trial at once, 2 CPUs each"
    assert str(Resources(8, 4, 1, lanes=4)) == "8 trials at once in 2 packs, 4 CPUs, 1 GPU each"
    assert str(Resources(4, 1, 0.5)) == "4 trials at once, 1 CPU, 0.5 GPU each"


def test_cpus_on_systems_that_do_not_tell_those_of_the_process(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert this_machine()[0]["CPU"] == 6


@pytest.mark.parametrize(("gpus", "part"), [(0, 1.0), (0.25, 0.25), (1, 1.0), (2, 1.0)])
def test_a_process_is_limited_to_its_resources(gpus, part, monkeypatch):
    used = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.set_num_threads", used.append)
    monkeypatch.setattr("autorank.training.gpu.limit_memory", used.append)
    keep_within(2.0, gpus)
    assert used == [2, part]


@pytest.mark.parametrize(("limit", "threads"), [("1", 1), ("8", 4), ("", 4), ("2,1", 4), ("0", 1)])
def test_omp_num_threads_is_respected(limit, threads, monkeypatch):
    used = []
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr("torch.set_num_threads", used.append)
    monkeypatch.setattr("autorank.training.gpu.limit_memory", lambda part: None)
    keep_within(4.0, 0)
    assert used == [threads]
