"""How many reservations a second the sandbox gives.

``PYTHONPATH=. python -P bench/sandbox.py [--seconds 5] [--connections 32]``.
The last line on standard output is one JSON object. ``per_second`` is by the clock and shares the machine with this
client; ``per_cpu_second`` divides by the processor time the sandbox itself used, which is what one core can do.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sandbox.server import SandboxServer

TAG = "bench"


class Caller(asyncio.Protocol):
    """One kept connection that asks again as soon as it has its answer."""

    def __init__(self, request: bytes, until: float, done: asyncio.Future[int]):
        self._request = request
        self._until = until
        self._done = done
        self._answer = b""
        self._links: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first link."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take the answer when it is complete, and ask again."""
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._done.set_exception(RuntimeError(f"the sandbox answered {head[:12].decode()}"))
            return
        self._links.append(body)
        self._answer = b""
        if self._transport is not None and time.monotonic() < self._until:
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(len(set(self._links)))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the measurement if a connection ends early."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the sandbox closed a connection"))


async def ask(host: str, port: int, api_key: str, connections: int, seconds: float) -> int:
    """Keep some connections busy for some seconds; gives the number of links."""
    loop = asyncio.get_running_loop()
    request = (
        f"GET /dispenser/distribution/reserveOne?tags={TAG}&format=linkObject HTTP/1.1\r\n"
        f"host: {host}\r\nx-api-key: {api_key}\r\naccept: */*\r\n\r\n"
    ).encode()
    until = time.monotonic() + seconds
    links = []
    for _ in range(connections):
        done: asyncio.Future[int] = loop.create_future()
        await loop.create_connection(lambda done=done: Caller(request, until, done), host, port)
        links.append(done)
    return sum(await asyncio.wait_for(asyncio.gather(*links), seconds + 30))


def cpu_seconds(pid: int) -> float:
    """Read the processor time that a process has used, user and system (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure once with a state file, as the local stack has one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, SandboxServer() as sandbox:
        base_url = sandbox.start(state=Path(folder) / "sandbox.state")
        sandbox.control().create_pool(TAG, 10_000_000)
        host, port = base_url.removeprefix("http://").split(":")
        used, began = cpu_seconds(sandbox.pid or 0), time.monotonic()
        links = uvloop.run(ask(host, int(port), sandbox.api_key, given.connections, given.seconds))
        seconds, used = time.monotonic() - began, cpu_seconds(sandbox.pid or 0) - used
        counted = sandbox.control().counters()["reservations"]
    figures = {
        "reservations": links,
        "seconds": round(seconds, 2),
        "per_second": round(links / seconds),
        "per_cpu_second": round(links / used),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if counted == links else 1


if __name__ == "__main__":
    sys.exit(main())
