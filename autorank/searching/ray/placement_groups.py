"""What trials of several workers have reserved, noted in the cluster itself.

There the driver finds it when a trial's process has died: no node need be there for it, and no storage.
"""

from __future__ import annotations

from ray import PlacementGroupID
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.util.placement_group import PlacementGroup, remove_placement_group

PLACE = "autorank"  # namespace of the notes


def note(trial: str, group: PlacementGroup) -> None:
    """That a trial's workers have this group. `trial`: Tune's id."""
    _internal_kv_put(trial, group.id.binary(), namespace=PLACE)


def free(trial: str) -> None:
    """Give back what a trial has reserved, and with it end its workers at once; nothing, if it has nothing."""
    group = _internal_kv_get(trial, namespace=PLACE)
    if group is not None:
        remove_placement_group(PlacementGroup(PlacementGroupID(group)))  # which may be gone
        _internal_kv_del(trial, namespace=PLACE)
