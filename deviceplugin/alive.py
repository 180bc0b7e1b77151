"""The liveness probe's program: whether the event loop of the daemon in this container answers.

    python3 -I -S alive.py [PID]

Without a number it is the daemon of this pod: process 1, or another where the pod sees the host's
processes. It imports nothing of the package: what a start of Python costs, without `site`, is 10 ms
of CPU.
"""

import _socket
import sys

ADDRESS = b"\0deviceplugin.alive.%d"  # abstract: of the pod's network namespace, no file
ANSWER = b"ok\n"
WAIT_S = 3.0
SOCKETS = "/proc/self/net/unix"  # those of this pod, whosever processes it sees
FIRST = 1


def problem(pid: int, wait_s: float = WAIT_S) -> str:
    """Why the daemon of that process id is not alive, empty where it is."""
    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        peer.settimeout(wait_s)
        peer.connect(ADDRESS % pid)
        answered = peer.recv(len(ANSWER)) == ANSWER
    except TimeoutError:
        return f"the event loop of process {pid} does not answer within {wait_s:g} s"
    except OSError as error:
        return f"no daemon answers as process {pid}: {error.strerror}"
    finally:
        peer.close()
    return "" if answered else f"something else answers for process {pid}"


def daemon_of(sockets: str) -> int:
    """The process of the daemon whose socket is listed; process 1 where none or several are."""
    name = ADDRESS[1:].replace(b"%d", b"").decode()
    found = {word.rpartition(name)[2] for word in sockets.split() if word.startswith(f"@{name}")}
    only = found.pop() if len(found) == 1 else ""
    return int(only) if only.isdecimal() else FIRST


def _sockets() -> str:
    try:
        with open(SOCKETS, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # no imports
            return file.read()
    except OSError:
        return ""


def main() -> None:
    """Exit status 0 and "ok", or 1 and why not."""
    text = problem(int(sys.argv[1]) if len(sys.argv) > 1 else daemon_of(_sockets()))
    sys.stdout.write(f"{text or 'ok'}\n")
    sys.exit(1 if text else 0)


if __name__ == "__main__":
    main()
