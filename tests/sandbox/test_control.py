"""The routes under /sandbox/, the command line, and what is logged: nothing that opens a passport."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from sandbox.__main__ import make_platform
from sandbox.control import control_app
from sandbox.errors import SandboxError
from sandbox.nmp import NmpApi
from sandbox.platform import Platform
from sandbox.server import ROOT, SandboxControl, SandboxServer

from .conftest import Nmp


def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
    )


def test_a_bad_request_is_explained_without_repeating_it(server: SandboxServer, control: SandboxControl) -> None:
    secret = "https://test.arianee.net/440105186;v6lsj4vhg5dx"  # a semicolon: no link the sandbox reads
    answer = requests.post(server.base_url + "/sandbox/claim", json={"link": secret}, timeout=10)
    assert answer.status_code == 422
    assert "this is not a link" in answer.text
    assert "v6lsj4vhg5dx" not in answer.text
    with pytest.raises(SandboxError, match="has no comma"):
        control.create_pool("a,b", 1)
    with pytest.raises(SandboxError, match="there is no user 'nobody'"):
        control.remove_key("nobody")


def test_the_routes_can_be_browsed(server: SandboxServer) -> None:
    assert requests.get(server.base_url + "/sandbox/docs", timeout=10).status_code == 200
    paths = requests.get(server.base_url + "/sandbox/openapi.json", timeout=10).json()["paths"]
    assert "/sandbox/history" in paths


def test_a_key_of_one_user_cannot_become_anothers(control: SandboxControl) -> None:
    key = control.add_key("first")
    with pytest.raises(SandboxError, match="another user's"):
        control.add_key("second", key=key)


def test_the_history_is_read_page_by_page_to_its_end(server: SandboxServer, nmp: Nmp, tag: str) -> None:
    control = server.control()
    before = control.counters()["last_seq"]
    for _ in range(5):
        nmp.reserve(tag)
    page = requests.get(f"{server.base_url}/sandbox/history?since={before}&limit=2", timeout=10).json()["entries"]
    assert [entry["seq"] for entry in page] == [before + 1, before + 2]
    assert [entry["seq"] for entry in control.history(before)] == [before + n for n in range(1, 6)]


def test_counters_tell_the_most_calls_that_were_under_way_at_once(tag: str) -> None:
    with SandboxServer() as server, ThreadPoolExecutor(6) as threads:
        nmp = Nmp(server.start(config={"switches": {"latency_ms": 500}}))
        list(threads.map(lambda _: nmp.reserve(tag), range(6)))
        counters = server.control().counters()
    assert counters["under_way"] == 0
    assert 2 <= counters["most_under_way"] <= 6


def test_the_control_routes_are_for_the_loopback_address_or_the_control_key() -> None:
    # a real second address is not to be had everywhere, so the caller's address is given by the test client
    from fastapi.testclient import TestClient

    platform = Platform()
    for control_key, given, status in [(None, "", 403), ("s3", "", 403), ("s3", "s4", 403), ("s3", "s3", 200)]:
        app = control_app(platform, NmpApi(platform), control_key)
        with TestClient(app, client=("10.0.0.9", 4000)) as far:
            assert far.get("/sandbox/counters", headers={"x-sandbox-key": given}).status_code == status
            assert far.get("/sandbox/health").status_code == 200


def test_port_0_prints_the_base_url_first_and_sigterm_and_ctrl_c_end_it_quietly() -> None:
    for number, code in [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]:
        command = [sys.executable, "-m", "sandbox", "--port", "0"]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell starts background jobs with SIGINT ignored, and they pass that on
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base_url)
            assert requests.get(base_url + "/sandbox/health", timeout=10).json()["status"] == "ok"
            process.send_signal(number)
            assert process.communicate(timeout=20) == ("", "")
            assert process.returncode == code


def test_a_sandbox_started_by_a_process_that_ends_ends_with_it() -> None:
    starter = (
        "from sandbox.server import SandboxServer\nimport os\n"
        "server = SandboxServer()\nprint(server.start(), server.pid, flush=True)\nos._exit(1)"
    )
    started = subprocess.run([sys.executable, "-c", starter], cwd=ROOT, capture_output=True, text=True, timeout=60)
    pid = int(started.stdout.split()[1])
    try:
        ended, _, _ = select.select([os.pidfd_open(pid)], [], [], 20)
    except ProcessLookupError:
        return
    assert ended


def test_a_busy_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        ended = run("--port", str(port))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        f"the sandbox cannot listen on 127.0.0.1 port {port} (Address already in use); choose another with --port\n"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Invalid JSON"),
        ('{"pool": []}', "pool: Extra inputs are not permitted"),
        ('{"switches": {"link_fields": 9}}', "link_fields: Input should be less than or equal to 4"),
        ('{"pools": [{"tags": ["a,b"], "size": 1}]}', "has no comma"),
        ('{"keys": [{"user": "brand"}]}', "the key of user 'brand' is missing"),
        (None, "No such file or directory"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_sentence_and_leaves_no_state(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    config, state = tmp_path / "config.json", tmp_path / "state"
    if content is not None:
        config.write_text(content)
    with pytest.raises(SandboxError, match=re.escape(f"the configuration {config} can")) as error:
        make_platform(state, None, config)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not state.exists()


def test_nothing_that_is_sent_or_received_is_written_to_its_output(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "sandbox", "--port", "0"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True) as process:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            nmp, control = Nmp(base_url), SandboxControl(base_url)
            for fault in ("lost_answer", "connection_reset", "truncated", "server_error_after"):
                control.queue_fault(fault)
                with suppress(requests.RequestException):
                    nmp.reserve("canary-tag")
            body = nmp.reserve("canary-tag").json()
            control.claim(body["deeplink"]["link"])
            nmp.replace(body["certificateId"])
            nmp.call("POST", "/certificate/getListOfSmartAssetsIdByTags", data=b"\xff canary-tag")
            requests.get(base_url + "/canary-tag", timeout=10)
            host, port = base_url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"canary-tag is no HTTP\r\n\r\n")
                assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
            process.terminate()
            rest = process.communicate(timeout=20)[0]
    assert rest == ""
    assert output.read_text() == ""


def test_a_config_given_as_a_dict_does_what_a_file_does(tmp_path: Path) -> None:
    config = {"pools": [{"tags": ["gift"], "size": 1}], "switches": {"auto_pool": False}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for given in (config, tmp_path / "config.json"):
        with SandboxServer() as server:
            nmp = Nmp(server.start(config=given))
            assert [nmp.reserve("gift").status_code for _ in range(2)] == [200, 400]
