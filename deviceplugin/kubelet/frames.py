"""Follows the frames of an HTTP/2 connection (RFC 9113, 4.1): what a peer sends, and how fast.

Nothing is decoded, and nothing kept but a few numbers; pure.
"""

PREFACE_BYTES = 24
HEADER_BYTES = 9
MAX_FRAME_BYTES = 16 * 1024  # the least that a server must take, and what ours announces
MAX_BLOCK_BYTES = 16 * 1024  # a header block; the kubelet's have 300 bytes
# A list or request of the greatest length is some hundred frames in one direction or the other.
BURST = 1024.0
FRAMES_PER_S = 1000.0
MAX_UNFINISHED = 64  # requests; a server allows 16 at a time
_DATA, _HEADERS, _RST_STREAM, _CONTINUATION = 0x0, 0x1, 0x3, 0x9
_END_STREAM, _END_HEADERS = 0x1, 0x4


class Frames:
    """What one peer has sent so far; the caller gives the time in seconds."""

    def __init__(self, now: float) -> None:
        self._skip = PREFACE_BYTES
        self._head = b""
        self._block = 0
        self._left, self._at = BURST, now
        self._requests: dict[bytes, int] = {}
        self.unfinished = 0  # bytes of requests that have not ended, which a server must keep

    def wait_s(self) -> float:
        """How long to read no more, in seconds."""
        return max(0.0, -self._left / FRAMES_PER_S)

    def problem(self, data: bytes, now: float) -> str:
        """Why the connection should end after these bytes, empty where it should not."""
        self._left = min(BURST, self._left + (now - self._at) * FRAMES_PER_S)
        self._at = now
        at = self._skipped(0, len(data))
        while at < len(data):
            missing = HEADER_BYTES - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == HEADER_BYTES:
                if problem := self._frame(self._head):
                    return problem
                self._head = b""
                at = self._skipped(at, len(data))
        return ""

    def _skipped(self, at: int, end: int) -> int:
        """The place after what is left of the payload."""
        step = min(self._skip, end - at)
        self._skip -= step
        return at + step

    def _frame(self, head: bytes) -> str:
        self._skip = int.from_bytes(head[:3], "big")
        if self._skip > MAX_FRAME_BYTES:
            return f"a frame of more than {MAX_FRAME_BYTES} bytes"
        self._left -= 1
        if head[3] in (_DATA, _HEADERS, _RST_STREAM) and (problem := self._request(head)):
            return problem
        if head[3] in (_HEADERS, _CONTINUATION):
            self._block += self._skip
            if self._block > MAX_BLOCK_BYTES:
                return f"headers of more than {MAX_BLOCK_BYTES} bytes"
            if head[4] & _END_HEADERS:
                self._block = 0
        return ""

    def _request(self, head: bytes) -> str:
        stream = head[5:9]
        if head[3] == _RST_STREAM or head[4] & _END_STREAM:
            self.unfinished -= self._requests.pop(stream, 0)
        elif head[3] == _DATA:
            self._requests[stream] = self._requests.get(stream, 0) + self._skip
            self.unfinished += self._skip
            if len(self._requests) > MAX_UNFINISHED:
                return f"more than {MAX_UNFINISHED} unfinished requests"
        return ""
