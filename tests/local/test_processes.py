import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local.processes import PROJECT, ChildProcess, Guard, LocalStackError, wait_until

# Starts a child that ignores SIGTERM, writes its process id, and sleeps.
PARENT = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(600)"], stdout=subprocess.PIPE)
child.stdout.readline()
pathlib.Path(sys.argv[1] + ".new").write_text(str(child.pid))
pathlib.Path(sys.argv[1] + ".new").rename(sys.argv[1])
time.sleep(600)
"""


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _pid_in(file: Path) -> int:
    assert wait_until(file.exists, 20)
    return int(file.read_text())


def _part(tmp_path: Path, guard: Guard | None = None) -> tuple[ChildProcess, int]:
    pid_file = tmp_path / "pid"
    part = ChildProcess("part", [sys.executable, "-c", PARENT, str(pid_file)], tmp_path / "log", os.environ, guard)
    part.start()
    return part, _pid_in(pid_file)


def test_a_stopped_part_takes_everything_it_started_with_it(tmp_path: Path) -> None:
    part, child = _part(tmp_path)
    assert part.is_alive()
    assert _runs(child)
    part.stop()
    assert not part.is_alive()
    assert not _runs(child)


def test_a_killed_part_leaves_what_it_started_until_it_is_stopped(tmp_path: Path) -> None:
    part, child = _part(tmp_path)
    part.kill()
    assert part.pid is None
    assert _runs(child)
    part.stop()
    assert not _runs(child)


def test_a_restarted_part_is_a_new_process_and_its_log_goes_on(tmp_path: Path) -> None:
    part = ChildProcess("part", ["sh", "-c", "echo begun; exec sleep 600"], tmp_path / "log", os.environ)
    part.start()
    first = part.pid
    assert wait_until(lambda: (tmp_path / "log").read_text() == "begun\n", 20)
    part.restart()
    assert part.pid != first
    assert wait_until(lambda: (tmp_path / "log").read_text() == "begun\nbegun\n", 20)
    part.stop()


def test_a_parent_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time, pathlib\n"
            "from local.processes import ChildProcess, Guard\n"
            "part = ChildProcess('part', [sys.executable, '-c', sys.argv[1], sys.argv[2] + '/pid'],"
            " pathlib.Path(sys.argv[2], 'log'), os.environ, Guard())\n"
            "part.start()\n"
            "print(part.pid, flush=True)\n"
            "time.sleep(600)\n",
            PARENT,
            str(tmp_path),
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    part = int(parent.stdout.readline())
    child = _pid_in(tmp_path / "pid")
    assert _runs(part)
    assert _runs(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not _runs(part) and not _runs(child), 20)


def test_a_one_shot_command_that_does_not_end_is_named(tmp_path: Path) -> None:
    part = ChildProcess("migration", ["sleep", "600"], tmp_path / "log", os.environ)
    part.start()
    with pytest.raises(LocalStackError, match=r"migration has not ended after 0.1 seconds; read .*log"):
        part.wait(0.1)
    part.stop()
