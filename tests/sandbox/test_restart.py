"""The state file brings everything back after a SIGKILL, in the middle of anything."""

import json
import resource
import stat
import threading
from pathlib import Path

import pytest
import requests

from sandbox.errors import SandboxError
from sandbox.journal import Journal
from sandbox.platform import Platform
from sandbox.server import SandboxServer

from .conftest import Nmp


def test_a_killed_sandbox_comes_back_as_it_was(tmp_path: Path) -> None:
    with SandboxServer() as server:
        nmp = Nmp(server.start(state=tmp_path / "state", seed=11))
        control = server.control()
        control.create_pool("gift", 4)
        control.add_key("reader", ["certRead"], key="reader-key")
        control.set_switches(link_fields=3, passphrase_after_reset="new")
        control.set_faults([{"fault": "server_error_before", "probability": 1, "limit": 3, "burst": 2}])
        control.queue_fault("too_many_requests", times=3)
        assert [nmp.reserve("gift").status_code for _ in range(4)] == [429, 429, 429, 500]
        control.queue_fault("unavailable", times=2)
        assert nmp.reserve("gift").status_code == 503
        control.queue_fault("lost_answer", call="reset")
        control.clear_faults()
        links = [nmp.reserved_link("gift") for _ in range(3)]
        assert control.claim(links[0]) == "done"
        replaced = nmp.replace(int(links[1].rsplit("/", 1)[1].split(",")[0])).json()["link"]
        assert nmp.reset("gift").json() == {"count": 2}
        control.set_faults([{"fault": "too_many_requests", "probability": 1, "limit": 2}])
        assert nmp.reserve("gift").status_code == 429
        control.queue_fault("unavailable", times=2)
        assert nmp.reserve("gift").status_code == 503
        before = control.history(), control.counters(), control.switches(), control.faults()

        server.kill()
        base_url = nmp.base_url
        assert server.restart() == base_url

        control = server.control()
        assert control.health() == {"status": "ok", "seed": 11, "restored": True}
        assert control.faults()["mix"] == before[3]["mix"]
        assert (control.history(), control.switches()) == (before[0], before[2])
        assert control.counters() == {**before[1], "most_under_way": 0}
        assert [nmp.reserve("gift").status_code for _ in range(3)] == [503, 429, 200]
        assert Nmp(base_url, "reader-key").claimed(["gift"]) != []
        assert control.claim(links[0]) == "already_claimed"
        assert control.claim(links[1]) == "not_valid"
        assert control.claim(replaced) == "not_valid"  # the reservation after the reset gave it a new passphrase


def test_nothing_that_was_answered_is_forgotten_when_it_is_killed_under_load(tmp_path: Path) -> None:
    answered: list[str] = []

    def call_until_it_dies(nmp: Nmp) -> None:
        session = requests.Session()
        url = nmp.base_url + "/dispenser/distribution/reserveOne?tags=gift"
        while True:
            try:
                answer = session.get(url, headers={"x-api-key": "sandbox-key"}, timeout=10)
            except requests.RequestException:
                return
            answered.append(str(answer.json()["certificateId"]))
            if len(answered) >= 200:
                enough.set()

    with SandboxServer() as server:
        nmp = Nmp(server.start(state=tmp_path / "state"))
        enough = threading.Event()
        callers = [threading.Thread(target=call_until_it_dies, args=[nmp]) for _ in range(8)]
        for caller in callers:
            caller.start()
        assert enough.wait(60)
        server.kill()
        for caller in callers:
            caller.join()
        server.restart()
        remembered = [entry["certificate_id"] for entry in server.control().history()]
    assert len(answered) == len(set(answered))
    assert set(answered) <= set(remembered)
    assert len(remembered) == len(set(remembered))
    assert len(remembered) - len(answered) <= 8  # a call of each caller was under way


def test_the_state_file_is_for_its_owner_only_and_holds_no_key(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with SandboxServer() as server:
        nmp = Nmp(server.start(state=state))
        nmp.reserve("gift")
        Nmp(nmp.base_url, "a-real-key-by-mistake").reserve("gift")
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert b"a-real-key" not in state.read_bytes()
    assert b"sandbox-key" not in state.read_bytes()


def test_a_last_line_cut_short_is_dropped(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with SandboxServer() as server:
        nmp = Nmp(server.start(state=state))
        first = nmp.reserved_link("gift")
        server.kill()
        with state.open("ab") as file:
            file.write(b'{"do":"call","kin')
        server.restart()
        assert len(server.control().history()) == 1
        assert nmp.reserved_link("gift") != first
        server.kill()
        server.restart()
        assert len(server.control().history()) == 2


@pytest.mark.parametrize(
    "content",
    [
        "orders,and,more\n",
        '{"do":"begin","version":99,"seed":0}\n',
        "[1]\n",
        '{"do":"begin","version":1,"seed":0}\n{}\n',
    ],
)
def test_a_file_that_is_no_state_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    state = tmp_path / "state"
    state.write_text(content)
    with pytest.raises(SandboxError, match=rf"state file {state} .*name another file"):
        Platform(journal=Journal(state))
    assert state.read_text() == content


def test_a_state_with_another_seed_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    Platform(1, journal)
    with pytest.raises(SandboxError, match="began with seed 1, not 2"):
        Platform(2, journal)
    assert Platform(None, journal).seed == 1


def test_a_state_file_serves_one_sandbox_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path / "state")
    with pytest.raises(SandboxError, match="in use by another sandbox"):
        Journal(tmp_path / "state")
    first.close()
    Journal(tmp_path / "state").close()


def test_a_sandbox_that_cannot_write_its_state_ends_before_it_answers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with SandboxServer() as server:
        nmp = Nmp(server.start(state=state))
        nmp.reserve("gift")
        full = state.stat().st_size + 10  # as on a full disk: the next line fits in part
        resource.prlimit(server.pid or 0, resource.RLIMIT_FSIZE, (full, full))
        with pytest.raises(requests.ConnectionError):
            nmp.reserve("gift")
        server.restart()
        assert len(server.control().history()) == 1


def test_a_state_is_a_regular_file_in_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="is not a regular file"):
        Journal(Path("/dev/null"))
    with pytest.raises(SandboxError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "state")


def test_a_config_begins_a_state_and_a_restart_keeps_what_became_of_it(tmp_path: Path) -> None:
    config = {
        "keys": [{"user": "brand", "key": "brand-key", "rights": ["certCreate"]}],
        "pools": [{"tags": ["gift"], "size": 2}],
        "switches": {"auto_pool": False, "link_host": "brand.example"},
        "faults": [{"fault": "too_many_requests", "probability": 1, "limit": 1}],
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with SandboxServer() as server:
        nmp = Nmp(server.start(state=tmp_path / "state", config=path), "brand-key")
        assert [nmp.reserve("gift").status_code for _ in range(4)] == [429, 200, 200, 400]
        server.control().set_switches(link_host="other.example")
        server.kill()
        server.restart()
        assert server.control().switches()["link_host"] == "other.example"
        assert nmp.reserve("gift").status_code == 400
