"""One page of an HTTP server, asked for on the loop; bounded in time and size."""

import asyncio
import ssl
from collections.abc import Mapping

from msgspec import Struct

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 4 << 20


class PageError(Exception):
    """No answer, or one that is none."""


class Server(Struct, frozen=True, kw_only=True):
    """Where it listens, as what it is asked, and how long an answer may take, all of it; with `tls`
    its certificate has to be one of `name`."""

    address: tuple[str, int]
    name: str = ""
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = {}
    within_s: float = 5.0


async def get(server: Server, path: str) -> tuple[int, bytes]:
    """Status and body; raises PageError."""
    try:
        async with asyncio.timeout(server.within_s):
            return await _asked(server, path)
    except TimeoutError as error:
        raise PageError(f"no answer within {server.within_s:g} s") from error
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise PageError(str(error) or type(error).__name__) from error


async def _asked(server: Server, path: str) -> tuple[int, bytes]:
    host, port = server.address
    name = server.name if server.tls else None
    reader, writer = await asyncio.open_connection(
        host, port, limit=MAX_HEAD_BYTES, ssl=server.tls, server_hostname=name
    )
    try:
        writer.write(_request(server, path))
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.transport.abort()  # closing waits for a peer that may be gone


def _request(server: Server, path: str) -> bytes:
    host, port = server.address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"GET {path} HTTP/1.1", f"Host: {shown}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in server.headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
        raise ValueError("no HTTP/1 answer")
    fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    length = fields.get("content-length", "")
    if not (length.isascii() and length.isdecimal()) or len(length) > 9:
        raise ValueError("an answer without a Content-Length")
    if int(length) > MAX_BODY_BYTES:
        raise ValueError(f"an answer of {length} bytes, at most {MAX_BODY_BYTES} are taken")
    return int(words[1]), await reader.readexactly(int(length))
