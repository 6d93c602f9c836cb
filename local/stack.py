"""The local stack: PostgreSQL, the NMP sandbox and Airflow as child processes on the loopback address.

``make run``, ``make run-once``, the integration tests and the chaos run all use this one class. Everything it makes is
in its state folder: databases, logs, Airflow's home, secrets.
"""

import base64
import fcntl
import json
import os
import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import requests

from include.warehouse.database import Connect, connecting_to
from local.airflow_api import AirflowApi
from local.postgres import EmbeddedPostgres
from local.processes import PROJECT, ChildProcess, Guard, LocalStackError, Part, end_sessions
from sandbox.platform import DEFAULT_KEY

HOST = "127.0.0.1"
AIRFLOW_DATABASE, ORDERS_DATABASE, WAREHOUSE_DATABASE = "airflow", "shop", "warehouse"
CONNECTIONS = ("orders_db", "warehouse", "nmp")
FREE_PORTS = range(20_000, 32_000)
"""Below every system's ephemeral ports, so that no outgoing connection sits on a port while its server restarts."""

# The executor's workers inherit the scheduler's connections. When it is killed they keep its transaction open, and with
# it its locks on the runs, so that the next scheduler would pass these by for ever.
POSTGRES_SETTINGS = {"idle_in_transaction_session_timeout": "20s"}


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, on 127.0.0.1."""

    ui: int
    postgres: int
    sandbox: int

    @classmethod
    def free(cls) -> "Ports":
        """Three ports that nobody uses now."""
        found: list[int] = []
        for port in random.SystemRandom().sample(FREE_PORTS, k=len(FREE_PORTS)):
            if is_free(port):
                found.append(port)
            if len(found) == 3:
                break
        return cls(*found)


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class Stack:
    """The local stack with its state in ``state``; a context manager that ends every process on the way out.

    ``ports`` default to free ones. ``environment`` is laid over the parts' environment (``PASSPORT_LINKS_*``,
    ``AIRFLOW__*``, ``AIRFLOW_CONN_*``); a connection there or in the process's own environment replaces the part that
    would serve it: with an ``AIRFLOW_CONN_NMP`` no sandbox is started. ``postgres_settings``
    are server settings (``{"log_statement": "all"}``), ``sandbox_arguments`` more arguments for ``sandbox``.
    ``warehouse_port`` is where the parts reach the warehouse if that is not PostgreSQL's own port, but a proxy's.

    >>> with Stack(Path(".state/try")) as stack:
    ...     stack.start()
    ...     stack.api.trigger("reserve_passport_links", {"day": "2026-11-22"})
    ...     stack.triggerer.kill()

    Every part has ``start``, ``stop``, ``kill``, ``restart``, ``pid`` and ``is_alive``. Raises ``LocalStackError``.
    """

    def __init__(
        self,
        state: Path,
        ports: Ports | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        sandbox_arguments: tuple[str, ...] = (),
        warehouse_port: int | None = None,
        dags_folder: Path = PROJECT / "dags",
        plugins_folder: Path = PROJECT / "plugins",
    ) -> None:
        self.state = state.resolve()
        self.ports = ports or Ports.free()
        self.dags_folder = dags_folder
        self.plugins_folder = plugins_folder
        self.logs = self.state / "logs"
        self.airflow_home = self.state / "airflow"
        self.api = AirflowApi(f"http://{HOST}:{self.ports.ui}")
        self._environment = dict(environment or {})
        self._postgres_settings = postgres_settings
        self._sandbox_arguments = sandbox_arguments
        self._warehouse_port = warehouse_port
        self._lock: int | None = None

    # ---- life --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        # Passing through is allowed: as root the database's own user has to reach its data.
        self.state.chmod(0o711)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        lock = self._lock = _lock(self.state)
        self.guard = Guard(keep_open=[lock])
        self.postgres = EmbeddedPostgres(
            self.state / "postgres",
            self.ports.postgres,
            log=self.logs / "postgres.log",
            settings={**POSTGRES_SETTINGS, **(self._postgres_settings or {})},
            guard=self.guard,
        )
        self._secrets = _secrets(self.state / "secrets.json")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self,
        prepare: Callable[["Stack"], None] | None = None,
        progress: Callable[[str], None] = lambda _: None,
        before_scheduler: Callable[[], None] = lambda: None,
    ) -> None:
        """Start everything and wait until all of Airflow is healthy.

        ``prepare(stack)`` runs as soon as the databases are there, beside Airflow's own migration: the place for
        migrating the warehouse and loading orders. ``before_scheduler`` runs when the API server answers.
        """
        if not self.postgres.is_alive():
            progress("starting PostgreSQL")
        self.start_databases()
        with _beside(lambda: prepare(self) if prepare else None, self._wait_for_sandbox):
            progress("preparing Airflow's database" if self._needs_airflow_migration() else "starting Airflow")
            self.migrate_airflow()
            progress("starting Airflow")
            self.start_airflow_server()
        before_scheduler()
        self.scheduler.start()
        self.triggerer.start()
        self.wait_healthy()

    def start_databases(self) -> None:
        """Start the sandbox and PostgreSQL (unless replaced from outside) and create the databases."""
        self._make_parts()
        if self.sandbox:
            self.sandbox.start()
        self.postgres.start()
        for database in (AIRFLOW_DATABASE, ORDERS_DATABASE, WAREHOUSE_DATABASE):
            self.postgres.create_database(database)

    def migrate_airflow(self) -> None:
        """Create or upgrade Airflow's own tables; quick when that has been done for this version."""
        if not self._needs_airflow_migration():
            return
        migration = self._airflow("airflow-migrate", "db", "migrate")
        migration.start()
        if migration.wait(300):
            message = f"`airflow db migrate` failed; read {migration.log}"
            raise LocalStackError(message)
        self._migrated.write_text(version("apache-airflow-core"))

    def start_airflow_server(self, seconds: float = 120) -> None:
        """Start the API server and the DAG processor, and wait: a task whose server is not there would fail."""
        self.api_server.start()
        self.dag_processor.start()
        self._wait_for(self.api.is_healthy, self.api_server, seconds)

    def wait_healthy(self, seconds: float = 120) -> None:
        """Wait until the API server says that the scheduler, the triggerer and the DAG processor are healthy."""
        for name, part in (
            ("scheduler", self.scheduler),
            ("triggerer", self.triggerer),
            ("dag_processor", self.dag_processor),
        ):
            self._wait_for(lambda name=name: self.api.is_healthy(name), part, seconds)  # type: ignore[misc]

    def revive(self) -> list[str]:
        """Start the parts that have ended, as a service manager would; gives their names.

        Airflow's scheduler and DAG processor end by themselves when their database goes away.
        """
        ended = [name for name, part in self.parts.items() if not part.is_alive()]
        for name in ended:
            self.parts[name].start()
        return ended

    def stop(self) -> None:
        """End every process, in order, within about 15 seconds; fine when some or all have ended."""
        if hasattr(self, "scheduler"):
            # Tasks first: what they write needs the API server and the database.
            _end([self.scheduler, self.triggerer, self.dag_processor], 5, self._is_idle)
            _end([self.api_server, *([self.sandbox] if self.sandbox else [])], 4)
        self.postgres.stop(5)
        self.guard.dismiss()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ---- what the parts are told -------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that run all the time, by name."""
        running: list[ChildProcess | EmbeddedPostgres | None] = [
            self.postgres,
            self.sandbox,
            self.api_server,
            self.scheduler,
            self.dag_processor,
            self.triggerer,
        ]
        return {part.name: part for part in running if part}

    @property
    def orders_db(self) -> Connect:
        """What opens the database of the orders."""
        return self._database("orders_db", ORDERS_DATABASE)

    @property
    def warehouse(self) -> Connect:
        """What opens the warehouse."""
        return self._database("warehouse", WAREHOUSE_DATABASE)

    @property
    def sandbox_url(self) -> str:
        """The sandbox's base URL."""
        return f"http://{HOST}:{self.ports.sandbox}"

    @property
    def sandbox_journal(self) -> Path:
        """Where the sandbox keeps what it gave out and to whom; it makes the same passphrases of it again."""
        return self.state / "sandbox.journal"

    @property
    def sandbox_key(self) -> str:
        """The sandbox's API key."""
        return DEFAULT_KEY

    def outside_connection(self, conn_id: str) -> str | None:
        """Give an Airflow connection (``nmp``…) as the environment has it; ``None`` where the stack has its own."""
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        return self._environment.get(name) or os.environ.get(name)

    def outside_connections(self) -> list[str]:
        """List the Airflow connections (``nmp``…) that the environment has."""
        return [conn_id for conn_id in CONNECTIONS if self.outside_connection(conn_id)]

    def environment(self) -> dict[str, str]:
        """Give the environment of every part: this process's without Airflow's settings, and what the stack decides."""
        shell = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        base_url = self.api.base_url
        ours = {
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "NO_PROXY": ",".join(filter(None, [shell.get("NO_PROXY"), HOST, "localhost"])),
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.plugins_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__FERNET_KEY": self._secrets["fernet_key"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # a name server may be far away
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.sqlalchemy_uri(AIRFLOW_DATABASE),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets["jwt_secret"],
            "AIRFLOW__API__SECRET_KEY": self._secrets["api_secret_key"],
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self.ports.ui),
            "AIRFLOW__API__BASE_URL": base_url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # Also how long a worker may go on waiting for a task that has ended.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__TRIGGERER__CAPACITY": "1000",
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1000",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        nmp = {
            "conn_type": "http",
            "host": self.sandbox_url,
            "password": self.sandbox_key,
            "extra": {"environment": "test", "sandbox": True},
        }
        warehouse = self.postgres.uri(WAREHOUSE_DATABASE, self._warehouse_port)
        connections = {
            "AIRFLOW_CONN_ORDERS_DB": self.outside_connection("orders_db") or self.postgres.uri(ORDERS_DATABASE),
            "AIRFLOW_CONN_WAREHOUSE": self.outside_connection("warehouse") or warehouse,
            "AIRFLOW_CONN_NMP": self.outside_connection("nmp") or json.dumps(nmp),
        }
        return {**shell, **ours, **connections, **self._environment}

    # ---- within ------------------------------------------------------------------------------------------------

    def _database(self, conn_id: str, database: str) -> Connect:
        outside = self.outside_connection(conn_id)
        if not outside:
            return connecting_to(self.postgres.uri(database))
        # As soon as it is imported, Airflow writes its configuration into its home.
        os.environ.setdefault("AIRFLOW_HOME", str(self.airflow_home))
        with redirect_stdout(sys.stderr):  # to where Airflow then logs; standard output is for the results of commands
            from passport_airflow.connections import from_environment

        return from_environment(conn_id, outside)

    def _make_parts(self) -> None:
        if hasattr(self, "scheduler"):
            return
        self.sandbox = (
            None
            if self.outside_connection("nmp")
            else self._child(
                "sandbox",
                [
                    *(sys.executable, "-m", "sandbox"),
                    *("--port", str(self.ports.sandbox)),
                    *("--state", str(self.sandbox_journal)),
                    *self._sandbox_arguments,
                ],
                {**os.environ, "PYTHONPATH": str(PROJECT)},
            )
        )
        self.api_server = self._airflow("api-server", "api-server")
        # Logs are files on this machine; the servers for them would listen on every address.
        self.scheduler = self._airflow("scheduler", "scheduler", "--skip-serve-logs")
        self.dag_processor = self._airflow("dag-processor", "dag-processor")
        self.triggerer = self._airflow("triggerer", "triggerer", "--skip-serve-logs")

    def _airflow(self, name: str, *arguments: str) -> ChildProcess:
        return self._child(name, [sys.executable, "-m", "airflow", *arguments], self.environment())

    def _child(self, name: str, argv: list[str], environment: Mapping[str, str]) -> ChildProcess:
        return ChildProcess(name, argv, self.logs / f"{name}.log", environment, self.guard)

    @property
    def _migrated(self) -> Path:
        return self.state / "airflow" / ".migrated"

    def _is_idle(self) -> bool:
        """Say whether only the scheduler and its idle workers are left: it may wait for them for ever.

        (Its shutdown sends each living worker one message, and any worker may take another's and be gone.)
        """
        if self.triggerer.is_alive() or self.dag_processor.is_alive():
            return False
        try:
            workers = psutil.Process(self.scheduler.pid).children() if self.scheduler.pid else []
            return not any(worker.children() for worker in workers)
        except psutil.NoSuchProcess:
            return False  # one of them ended just now: look again

    def _needs_airflow_migration(self) -> bool:
        try:
            if self._migrated.read_text() != version("apache-airflow-core"):
                return True
        except FileNotFoundError:
            return True
        with psycopg.connect(self.postgres.uri(AIRFLOW_DATABASE)) as connection:
            row = connection.execute("select to_regclass('public.alembic_version') is null").fetchone()
        return bool(row and row[0])

    def _wait_for_sandbox(self) -> None:
        if not self.sandbox:
            return

        def answers() -> bool:
            try:
                return requests.get(f"{self.sandbox_url}/sandbox/health", timeout=2).ok
            except requests.RequestException:
                return False

        self._wait_for(answers, self.sandbox, 60)

    def _wait_for(self, condition: Callable[[], bool], part: ChildProcess, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if not part.is_alive():
                message = f"{part.name} ended by itself; read {part.log}"
                raise LocalStackError(message)
            if time.monotonic() > deadline:
                message = f"{part.name} is not healthy after {seconds:g} seconds; read {part.log}"
                raise LocalStackError(message)
            time.sleep(0.1)


def _end(parts: list[ChildProcess], grace_seconds: float, is_idle: Callable[[], bool] = lambda: False) -> None:
    """End several parts at once, with everything they ever started."""
    end_sessions([session for part in parts for session in part.sessions], grace_seconds, is_idle)
    for part in parts:
        part.stop()  # nothing is left of it but its exit code


@contextmanager
def _beside(*works: Callable[[], None]) -> Iterator[None]:
    """Run ``works`` in threads beside the block and wait for them at its end; their first error is raised."""
    errors: list[BaseException] = []

    def attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again below, in the main thread
            errors.append(error)

    threads = [threading.Thread(target=attempt, args=[work], daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _secrets(path: Path) -> dict[str, str]:
    """Read the stack's own secrets; makes them at first, in a file that only its owner may read."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    made = {
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret_key": secrets.token_urlsafe(32),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(made, file)
    return made


# ---- one stack per state folder ------------------------------------------------------------------------------------


def _lock(state: Path) -> int:
    """Take the state folder for this process, and for its guard after it; returns the lock's file descriptor."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = running(state)
        os.close(lock)
        who = f"process {owner.pid}" if owner else "one that is just ending"
        message = f"a stack with its state in {state} is running already ({who}); `make stop` or Ctrl-C ends it"
        raise LocalStackError(message) from None
    me = psutil.Process()
    (state / "pid").write_text(json.dumps({"pid": me.pid, "began": me.create_time()}))
    return lock


def running(state: Path) -> psutil.Process | None:
    """Give the process that runs a stack in this state folder, or ``None``."""
    try:
        recorded = json.loads((state / "pid").read_text())
        process = psutil.Process(recorded["pid"])
        ours = abs(process.create_time() - recorded["began"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if ours else None
