"""The attackers, each a process: `python -m tests.attacks.attacker KIND TARGET SECONDS …`."""

import sys
import threading
import time
from pathlib import Path
from functools import partial
from tests.attacks import http2


def main() -> None:
    kind, target, seconds, *more = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    threads = [
        threading.Thread(target=http2.flood, args=(Path(target), http2.FLOODS[kind], until))
        for _ in range(2)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if __name__ == "__main__":
    main()
