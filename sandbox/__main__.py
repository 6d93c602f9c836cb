"""Start the sandbox: ``python -m sandbox --port 8765``."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from sandbox.app import SandboxApp, SandboxConfig
from sandbox.errors import SandboxError
from sandbox.journal import Journal
from sandbox.platform import DEFAULT_KEY, Platform
from sandbox.wire import SandboxProtocol

KEEP_ALIVE_SECONDS = 75
CONTROL_KEY_VARIABLE = "SANDBOX_CONTROL_KEY"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description=f"The NMP on a port, with passports that cost nothing. The API key with all rights: {DEFAULT_KEY}",
        epilog=f"Off the loopback address, /sandbox/ needs the header x-sandbox-key: ${CONTROL_KEY_VARIABLE}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="port; 0: any free one (default %(default)s)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep the state in this file over a restart")
    parser.add_argument("--seed", type=int, help="number that decides certificates, links and faults (default 0)")
    parser.add_argument("--config", type=Path, metavar="FILE.json", help="keys, pools, switches, faults at the start")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input ends")
    return parser.parse_args()


def read_config(path: Path) -> SandboxConfig:
    """Read a configuration file; raises SandboxError, which names the file and the field, if it cannot be used."""
    try:
        return SandboxConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        message = f"the configuration {path} cannot be read: {error.strerror}; name a JSON file"
        raise SandboxError(message) from None
    except ValidationError as error:
        raise SandboxError(_unusable(path, error)) from None


def _unusable(path: Path, error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"the configuration {path} cannot be used: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"the configuration {path} cannot be used: {error}"


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises SandboxError if the address is not free or not local."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"the sandbox cannot listen on {host} port {port} ({reason}); choose another with --port"
        raise SandboxError(message) from None
    return listener


def make_platform(state: Path | None, seed: int | None, config: Path | None) -> Platform:
    """Make the platform: the one of the state file, or a new one with the configuration; raises SandboxError."""
    wanted = read_config(config) if config else SandboxConfig()
    if config:
        try:
            wanted.apply(Platform(seed))  # fails before a state file is written
        except ValueError as error:
            raise SandboxError(_unusable(config, error)) from None
    platform = Platform(seed, Journal(state) if state else None)
    if not platform.restored:
        wanted.apply(platform)
    return platform


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run until a signal and give the exit code. The first line on standard output is the base URL."""
    given = arguments()
    try:
        listener = listen(given.host, given.port)
        platform = make_platform(given.state, given.seed, given.config)
    except SandboxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    app = SandboxApp(platform, os.environ.get(CONTROL_KEY_VARIABLE))
    config = uvicorn.Config(
        app,
        http=SandboxProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level=logging.CRITICAL,  # uvicorn's log lines may quote a request; the logger sandbox never does
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    host, port = listener.getsockname()[:2]
    sys.stdout.write(f"http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()
    if given.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
