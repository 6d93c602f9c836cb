"""One sandbox process for all tests here, set back to its defaults after each, and a plain caller of the NMP."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import requests

from sandbox.server import SandboxControl, SandboxServer
from sandbox.switches import Switches

_numbers = count(1)


@dataclass
class Nmp:
    """Calls the NMP's routes as the documentation writes them, and follows nothing."""

    base_url: str
    key: str | None = "sandbox-key"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"x-api-key": self.key} if self.key else {}
        return requests.request(
            method, self.base_url + path, headers=headers, allow_redirects=False, timeout=10, **options
        )

    def reserve(self, tags: str, link_format: str = "linkObject") -> requests.Response:
        return self.call("GET", "/dispenser/distribution/reserveOne", params={"tags": tags, "format": link_format})

    def reserved_link(self, tags: str) -> str:
        answer = self.reserve(tags, "link")
        assert answer.status_code == 200
        return answer.text

    def reset(self, tags: str) -> requests.Response:
        return self.call("GET", "/dispenser/distribution/resetAll", params={"tags": tags})

    def replace(self, *body: Any) -> requests.Response:
        return self.call("POST", "/api/createCertificateRequestOwnershipLink", json=list(body))

    def claimed(self, tags: list[str], rule: str = "and") -> list[Any]:
        body = {"tags": tags, "tagRule": rule, "uniqueOwner": True}
        answer = self.call("POST", "/certificate/getListOfSmartAssetsIdByTags", json=body)
        assert answer.status_code == 200
        return answer.json()["result"]["smartAssetsId"]

    def claimed_count(self, tags: list[str], rule: str = "and") -> int:
        body = {"tags": tags, "tagRule": rule}
        answer = self.call("POST", "/certificate/getCountOfSmartAssetsIdByTags", json=body)
        return answer.json()["result"]["count"]


@pytest.fixture(scope="session")
def server() -> Iterator[SandboxServer]:
    with SandboxServer() as sandbox:
        sandbox.start(seed=7)
        yield sandbox


@pytest.fixture
def control(server: SandboxServer) -> Iterator[SandboxControl]:
    control = server.control()
    yield control
    control.clear_faults()
    control.set_switches(**Switches().model_dump(mode="json"))


@pytest.fixture
def nmp(server: SandboxServer, control: SandboxControl) -> Nmp:
    return Nmp(server.base_url)


@pytest.fixture
def tag() -> str:
    """A tag no other test uses."""
    return f"tag-{next(_numbers)}"
