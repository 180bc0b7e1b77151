"""What one peer of a plugin's socket may send and hold, as options of its gRPC server.

The kubelet has one connection, with one stream for the list and one call at a time. Whoever else
can connect is root, or has the kubelet's directory of sockets. The daemon must not end by it:
beyond its container's limit of memory the kernel kills it, and all resources of the node with it.
"""

from collections.abc import Sequence

CONNECTIONS = 16  # the kubelet's is one
STREAMS = 16  # of one connection
MIN_MESSAGE_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # twice what the kubelet takes as a list
Option = tuple[str, int]


def message_limit(list_bytes: int) -> int:
    """The bytes that a request may have, for a list of that size: GetPreferredAllocation may name
    every id twice. A power of two, so that a list that grows changes it seldom."""
    limit = MIN_MESSAGE_BYTES
    while limit < 2 * list_bytes and limit < MAX_MESSAGE_BYTES:
        limit *= 2
    return limit


def server_options(message_bytes: int) -> Sequence[Option]:
    """For a server whose requests have so many bytes at most."""
    return (
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.so_reuseport", 0),
        # Pings that measure a network's bandwidth; each keeps gRPC's idle threads awake a while.
        ("grpc.http2.bdp_probe", 0),
        # The gate counts them; of one that it has just ended gRPC may not know yet.
        ("grpc.max_allowed_incoming_connections", 2 * CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", 2_000),  # for a peer that says nothing at all
        ("grpc.http2.settings_timeout", 5_000),
        ("grpc.max_connection_idle_ms", 30_000),  # the kubelet's has its stream, and is never idle
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.max_requests_per_read", 8),
        ("grpc.max_metadata_size", 4 * 1024),
        ("grpc.absolute_max_metadata_size", 8 * 1024),
        ("grpc.http2.max_frame_size", 16 * 1024),
    )
