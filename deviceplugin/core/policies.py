"""Preferred allocation: which of the free ids a container should get; pure."""

from deviceplugin.model import AdvertisedID, Preference, Resource


def prefer(resource: Resource, preference: Preference) -> tuple[AdvertisedID, ...]:
    """`size` ids that hold all of `must_include`, in id order; fewer where there are fewer.

    An id that is not listed here is taken last: the kubelet may know more than we do, and an
    error would reject the pod.
    """
    must = preference.must_include[: preference.size]
    listed = {entry.id for entry in resource.devices}
    free = sorted(
        set(preference.available) - set(must), key=lambda free_id: (free_id not in listed, free_id)
    )
    return tuple(sorted((*must, *free[: max(preference.size - len(must), 0)])))
