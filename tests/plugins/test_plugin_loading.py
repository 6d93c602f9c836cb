"""How Airflow loads ``plugins/`` and how Python finds ``include``, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PLUGINS = PROJECT / "plugins"
FILES = sorted(str(path.relative_to(PLUGINS)) for path in PLUGINS.rglob("*.py"))
MODULES = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES]
DAG_IDS = ["reserve_passport_links", "reset_stale_reservations", "resolve_attention"]

LOAD_AND_PARSE = """
import collections, importlib, json, os, sys

plugins_folder, dags_folder, manager, modules, installed = json.loads(sys.argv[1])
executed = collections.Counter()

def note(event, arguments):
    file = getattr(arguments[0], "co_filename", "") if event == "exec" else ""
    if file.startswith(plugins_folder):
        executed[os.path.relpath(file, plugins_folder)] += 1

sys.addaudithook(note)
sys.path += installed

import airflow.settings
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import BaseHook

airflow.settings.initialize()
plugins, errors = importlib.import_module(manager)._get_plugins()
bag = DagBag(dags_folder, bundle_name="dags-folder")
for module in modules:
    importlib.import_module(module)
print(json.dumps({
    "plugins": [plugin.name for plugin in plugins],
    "errors": [*errors.values(), *bag.import_errors.values()],
    "dags": sorted(bag.dags),
    "executed": executed,
    "hooks": [hook.__module__ for hook in BaseHook.__subclasses__() if hook.__name__ == "NmpHook"],
}))
"""
"""Loads the plugins, parses the DAGs, imports ``modules``, and says what came of it as one line of JSON.

``installed`` are folders where Python looks last, after site-packages.
"""


def load_and_parse(
    home: Path,
    *,
    python_path: Sequence[Path] = (PROJECT,),
    installed: Sequence[Path] = (),
    modules: Sequence[str] = (),
    manager: str = "airflow.plugins_manager",
    ignore_file_syntax: str = "glob",
) -> dict[str, Any]:
    """Run ``LOAD_AND_PARSE`` as Airflow's own processes run; ``manager`` is the module that loads the plugins."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
    arguments = [f"{PLUGINS}{os.sep}", str(PROJECT / "dags"), manager, list(modules), [*map(str, installed)]]
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_PARSE, json.dumps(arguments)],
        env={
            **outside,
            "PYTHONPATH": os.pathsep.join(map(str, python_path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
            "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX": ignore_file_syntax,
        },
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def other_packages(folder: Path, *files: str) -> Path:
    """Make a folder with packages of other people, which must not be executed."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('another package of this name was executed')\n")
    return folder


# ---- what is executed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manager", "syntax"),
    [
        ("airflow.plugins_manager", "glob"),
        ("airflow.plugins_manager", "regexp"),
        ("airflow.sdk.plugins_manager", "regexp"),
    ],
)
def test_each_module_is_executed_once_and_only_the_page_is_a_plugin(tmp_path: Path, manager: str, syntax: str) -> None:
    came = load_and_parse(tmp_path, modules=MODULES, manager=manager, ignore_file_syntax=syntax)
    assert came["errors"] == []
    assert came["plugins"] == ["passport_links_page"]
    assert came["dags"] == DAG_IDS
    assert came["executed"] == dict.fromkeys(FILES, 1)
    assert came["hooks"] == ["passport_airflow.nmp_hook"]


def test_loading_the_plugin_imports_nothing_that_only_the_page_needs(tmp_path: Path) -> None:
    code = "import sys, airflow.sdk.plugins_manager; before = set(sys.modules); import passport_links_page"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sorted(set(sys.modules) - before))"],
        env={"PYTHONPATH": f"{PLUGINS}{os.pathsep}{PROJECT}", "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["passport_airflow", "passport_airflow.page", "passport_links_page"]


# ---- other packages of the same names --------------------------------------------------------------------------------


def test_installed_packages_with_names_of_ours_break_nothing(tmp_path: Path) -> None:
    names = ["include", "retrying", *(module.rpartition(".")[2] for module in MODULES if "." in module)]
    assert {"connections", "run_day", "retry_policy", "page"} <= set(names)
    folder = other_packages(tmp_path / "site-packages", *(f"{name}/__init__.py" for name in names))
    headers = other_packages(tmp_path / "headers", "include/Python.h")  # a folder include that is no package
    came = load_and_parse(tmp_path, python_path=[headers, PROJECT], installed=[folder])
    assert came["errors"] == []
    assert came["plugins"] == ["passport_links_page"]
    assert came["dags"] == DAG_IDS


@pytest.mark.parametrize("file", ["include/__init__.py", "include.py", None])
def test_another_include_before_the_project_s_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, file: str | None
) -> None:
    if file:
        other_packages(tmp_path / "site-packages", file)
    came = load_and_parse(tmp_path, python_path=[], installed=[tmp_path / "site-packages", PROJECT][: 2 if file else 1])
    assert (came["plugins"], came["dags"]) == ([], [])
    found = tmp_path / "site-packages" / file if file else "none"
    sentence = (
        f"the package 'include' that Python finds ({found}) is not this project's: put the folder that holds dags/, "
        "plugins/ and include/ before site-packages in sys.path, for example with PYTHONPATH=/opt/airflow"
    )
    assert [error.splitlines()[-1].removeprefix("ImportError: ") for error in came["errors"]] == [sentence] * 4
