"""The resources reserved by trials with several workers, stored in the cluster itself.

There the driver finds them when a trial's process has died, without access to its node or to storage.
"""

from __future__ import annotations

from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from autorank.searching.ray import _compat

NAMESPACE = "autorank"  # in the cluster's store


def store(trial: str, group: PlacementGroup) -> None:
    """Store the placement group of a trial, given by Tune's id."""
    _compat.kv_put(trial, group.id.binary(), NAMESPACE)


def is_stored(trial: str) -> bool:
    """Return whether the placement group of a trial, given by Tune's id, is stored."""
    return _compat.kv_get(trial, NAMESPACE) is not None


def release(trial: str) -> None:
    """Release the placement group of a trial, if it has one, which ends its workers at once."""
    group = _compat.kv_get(trial, NAMESPACE)
    if group is not None:
        remove_placement_group(PlacementGroup(PlacementGroupID(group)))  # which may be gone
        _compat.kv_delete(trial, NAMESPACE)
