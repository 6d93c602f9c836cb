"""Start a sandbox as its own process and control it: for tests, chaos runs and the local stack."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import requests

from sandbox.calls import ActOutcome
from sandbox.errors import SandboxError
from sandbox.faults import FaultRule
from sandbox.platform import DEFAULT_KEY
from sandbox.switches import Right

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 30


class SandboxControl:
    """The control routes of a running sandbox. Every method raises SandboxError with the sandbox's reason."""

    def __init__(self, base_url: str, control_key: str | None = None):
        self.base_url = base_url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        if control_key:
            self._session.headers["x-sandbox-key"] = control_key

    def health(self) -> dict[str, Any]:
        """Give the status, the seed, and whether the state was restored from its file."""
        return self._json("GET", "health")

    def create_pool(self, tags: str | list[str], size: int) -> dict[str, int]:
        """Create or resize the pool of passports with exactly these tags; gives size, reserved, claimed and free."""
        return self._json("PUT", "pools", {"tags": [tags] if isinstance(tags, str) else tags, "size": size})

    def add_key(self, user: str, rights: list[Right] | None = None, key: str | None = None) -> str:
        """Give a user an API key (rights unset: all), which revokes the former one; gives the key."""
        wanted = list(Right) if rights is None else rights
        return str(self._json("PUT", "keys", {"user": user, "rights": wanted, "key": key})["key"])

    def remove_key(self, user: str) -> None:
        """Revoke a user's key."""
        self._send("DELETE", f"keys/{user}")

    def switches(self) -> dict[str, Any]:
        """Give all switches."""
        return self._json("GET", "switches")

    def set_switches(self, **changes: Any) -> dict[str, Any]:
        """Change some switches and give all."""
        return self._json("PATCH", "switches", changes)

    def set_faults(self, rules: list[FaultRule] | list[dict[str, Any]]) -> None:
        """Replace the mix of faults, each with its probability; an empty list ends them."""
        self._send("PUT", "faults", [_plain(rule) for rule in rules])

    def queue_fault(self, fault: str, times: int = 1, **options: Any) -> None:
        """Let the next ``times`` calls (reserve, unless ``call`` says otherwise; of ``tag``, if given) have a fault."""
        self._send("POST", "faults/queue", {"fault": fault, "limit": times, **options})

    def faults(self) -> dict[str, list[dict[str, Any]]]:
        """Give the mix, and what is left of the queue."""
        return self._json("GET", "faults")

    def clear_faults(self) -> None:
        """End the mix and the queue."""
        self._send("DELETE", "faults")

    def claim(
        self, link: str | None = None, *, certificate_id: Any = None, passphrase: str | None = None
    ) -> ActOutcome:
        """Claim a passport as its customer."""
        return self._act("claim", link, certificate_id, passphrase)

    def scan(self, link: str | None = None, *, certificate_id: Any = None, passphrase: str | None = None) -> ActOutcome:
        """Scan a link as its customer, without claiming."""
        return self._act("scan", link, certificate_id, passphrase)

    def history(self, since: int = 0) -> list[dict[str, Any]]:
        """List every entry after number ``since``, oldest first (``HistoryEntry`` in calls.py)."""
        return list(self._pages(since))

    def _pages(self, since: int) -> Iterator[dict[str, Any]]:
        while entries := self._json("GET", f"history?since={since}")["entries"]:
            yield from entries
            since = entries[-1]["seq"]

    def counters(self) -> dict[str, Any]:
        """Count requests by kind, reservations given, faults by kind, calls under way, and every tag's passports."""
        return self._json("GET", "counters")

    def _act(self, route: str, link: str | None, certificate_id: Any, passphrase: str | None) -> ActOutcome:
        wanted = {"link": link} if link is not None else {"certificate_id": certificate_id, "passphrase": passphrase}
        answer = self._send("POST", route, wanted, accept=(404, 409))
        return ActOutcome(answer.json()["outcome"])

    def _json(self, method: str, route: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._send(method, route, body).json()
        return answer

    def _send(self, method: str, route: str, body: Any = None, accept: tuple[int, ...] = ()) -> requests.Response:
        try:
            answer = self._session.request(
                method, f"{self.base_url}/sandbox/{route}", json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            message = f"the sandbox at {self.base_url} does not answer ({type(error).__name__}); is it running?"
            raise SandboxError(message) from None
        if not answer.ok and answer.status_code not in accept:
            message = f"the sandbox refused {method} /sandbox/{route.split('?')[0]}: {answer.status_code} {answer.text}"
            raise SandboxError(message)
        return answer


def _plain(rule: FaultRule | dict[str, Any]) -> dict[str, Any]:
    return rule.model_dump(mode="json") if isinstance(rule, FaultRule) else rule


class SandboxServer:
    """A sandbox process on the loopback address; it ends with this process, and with its ``with`` block::

    with SandboxServer() as sandbox:
        base_url = sandbox.start(seed=7)
        sandbox.control().create_pool("gift", 10)
    """

    api_key = DEFAULT_KEY

    def __init__(self) -> None:
        self.base_url = ""
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None
        self._arguments: list[str] = []
        self._port = 0

    def start(
        self,
        port: int = 0,
        state: Path | str | None = None,
        seed: int | None = None,
        config: Path | str | dict[str, Any] | None = None,
    ) -> str:
        """Start it (port 0: any free one) and give its base URL; raises SandboxError if it cannot start.

        ``config`` is a JSON file or its content; see ``SandboxConfig``.
        """
        self._arguments = []
        if state is not None:
            self._arguments += ["--state", str(state)]
        if seed is not None:
            self._arguments += ["--seed", str(seed)]
        if isinstance(config, dict):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(config, file)
                file.flush()
                return self._launch(port, [*self._arguments, "--config", file.name])
        if config is not None:
            self._arguments += ["--config", str(config)]
        return self._launch(port, self._arguments)

    def restart(self) -> str:
        """Start it again on the same port with the same state file, after stopping it; gives its base URL.

        A configuration given as a dict is not read again: with a state file it would have no effect.
        """
        self.stop()
        return self._launch(self._port, self._arguments)

    def stop(self) -> None:
        """End it by SIGTERM and wait; do nothing if it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._close()

    @property
    def pid(self) -> int | None:
        """Its process id, None while it is stopped."""
        return self._process.pid if self._process else None

    def control(self) -> SandboxControl:
        """Give a client of its control routes."""
        return SandboxControl(self.base_url)

    def _launch(self, port: int, arguments: list[str]) -> str:
        if self._process is not None and self._process.poll() is None:
            message = f"the sandbox at {self.base_url} is already running; stop it first"
            raise SandboxError(message)
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "sandbox", "--port", str(port), "--end-with-stdin", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        first_line = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not first_line:
            self._process.wait(TIMEOUT_SECONDS)
            self._stderr.seek(0)
            reason = self._stderr.read().strip()
            self._close()
            raise SandboxError(reason or "the sandbox ended without a message; start it by hand: python -m sandbox")
        self.base_url = first_line
        self._port = int(first_line.rsplit(":", 1)[1])
        return self.base_url

    def _close(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        self._process = None

    def __enter__(self) -> "SandboxServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
