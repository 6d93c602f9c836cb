"""The import contracts in pyproject.toml: they hold, and an import that breaks one is found and named."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's Python files and of pyproject.toml."""
    for folder in ("bench", "dags", "include", "local", "plugins", "sandbox", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(folder: Path) -> list[str]:
    """Lint the imports of a project; gives the names of the broken contracts."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "plugins", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = re.findall(r"^(.*) BROKEN", done.stdout, re.MULTILINE)
    assert f"{len(broken)} broken." in done.stdout, done.stdout + done.stderr
    assert bool(done.returncode) == bool(broken)
    return broken


def test_the_project_breaks_no_contract() -> None:
    assert broken_contracts(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("include/settings.py", "from airflow.sdk import Asset", "include/ never imports Airflow"),
        ("include/warehouse/migrations/env.py", "import airflow", "include/ never imports Airflow"),
        ("include/intake.py", "from passport_airflow.run_day import run_day", "include/ never imports Airflow"),
        ("local/console.py", "import dags.resolve_attention", "Nothing imports dags/"),
        ("tests/canaries.py", "from dags import resolve_attention", "Nothing imports dags/"),
        ("dags/resolve_attention.py", "import dags.reset_stale_reservations", "No DAG file imports another"),
        (
            "plugins/passport_airflow/run_day.py",
            "from sandbox.faults import Fault",
            "Deployed code imports no sandbox, no local stack and no tests",
        ),
        (
            "dags/resolve_attention.py",
            "from local.stack import Stack",
            "Deployed code imports no sandbox, no local stack and no tests",
        ),
        (
            "sandbox/nmp.py",
            "from local.stack import Stack",
            "Tests import local/, local/ imports the sandbox, never the reverse",
        ),
        ("include/nmp/client.py", "import include.ledger.transitions", "The layers of include/"),
        ("include/claims/syncing.py", "import include.reserving", "The layers of include/"),
        ("include/campaigns.py", "import include.settings, include.warehouse.database", "The layers of include/"),
        ("include/a_module_without_a_layer.py", "import json", "The layers of include/"),
    ],
)
def test_an_import_that_breaks_a_contract_is_found_and_named(copy: Path, file: str, line: str, contract: str) -> None:
    with (copy / file).open("a") as module:
        module.write(f"\n\ndef late() -> None:\n    {line}\n")
    assert broken_contracts(copy) == [contract]


def test_the_page_that_asks_the_nmp_breaks_a_contract_of_its_own(copy: Path) -> None:
    (copy / "include/page/asking.py").write_text("import include.nmp.client\n")
    assert broken_contracts(copy) == ["The page reaches neither the engine nor the NMP"]
