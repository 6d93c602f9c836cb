import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-s", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_help_has_one_line_for_every_command() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    commands = phony.group(1).split()
    assert {"run", "run-once", "stop", "test", "lint", "sandbox", "check", "migrate", "help"} <= set(commands)
    lines = _make("help").stdout.splitlines()
    assert [line.split()[1] for line in lines] == commands
    assert all(len(line.split(maxsplit=2)) == 3 for line in lines)


def test_make_without_a_command_is_help() -> None:
    assert _make().stdout == _make("help").stdout


def test_make_stop_is_fine_with_nothing_running(tmp_path: Path) -> None:
    stopped = _make("stop", f"STATE={tmp_path}")
    assert (stopped.returncode, stopped.stdout) == (0, f"nothing is running in {tmp_path}\n")


def test_make_says_which_python_it_needs_when_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    failed = subprocess.run(
        ["/usr/bin/make", "-s", "run"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("no Python 3.11, 3.12 or 3.13 is on the path; install one of them")
    assert not (tmp_path / ".venv").exists()


def test_the_hooks_before_a_commit_are_what_make_lint_runs() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}  # nothing is downloaded
    recipe = re.search(r"^lint: .*\n((?:\t@.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    commands = [line.removeprefix("\t@") for line in recipe.group(1).replace("$(BIN)", ".venv/bin").splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == commands
