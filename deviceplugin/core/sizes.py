"""Sizes of memory in the names of resources; pure."""


def size_class(memory_bytes: int) -> str:
    """The nearest GiB as `4gb`, below half a GiB the nearest MiB as `480mb`; never floored.

    A slice that holds 3.94 GiB after the driver's reserve is what people know as 4 GB.
    """
    gib = (memory_bytes + (1 << 29)) >> 30
    if gib:
        return f"{gib}gb"
    return f"{(memory_bytes + (1 << 19)) >> 20}mb"
