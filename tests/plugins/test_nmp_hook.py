"""The hook against Airflow's real reading of connections: every form in which a person may write ``nmp``."""

import json
import socket

import pytest

from include.nmp.answers import LinkRules
from include.nmp.connection import NmpConnection
from include.nmp.errors import NmpConfigurationError
from passport_airflow.nmp_hook import NmpHook

KEY = "11111111-canary-key-2222"


@pytest.fixture(autouse=True)
def _no_connection_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_NMP", raising=False)


def as_json(**fields: object) -> str:
    return json.dumps({"conn_type": "http", "password": KEY, **fields})


@pytest.mark.parametrize(
    ("value", "base_url", "rules"),
    [
        (as_json(host="https://nmp.example"), "https://nmp.example", LinkRules()),
        (as_json(host="https://nmp.example/"), "https://nmp.example", LinkRules()),
        (
            as_json(host="https://nmp.example/x", extra={"environment": "test", "link_hosts": ["a.b"]}),
            "https://nmp.example/x",
            LinkRules("test", ("a.b",)),
        ),
        (
            as_json(host="https://nmp.example", extra='{"environment": "production", "link_hosts": "a.b, C.d,"}'),
            "https://nmp.example",
            LinkRules("production", ("a.b", "c.d")),
        ),
        (
            as_json(host="https://nmp.example", extra={"environment": None, "sandbox": True}),
            "https://nmp.example",
            LinkRules(),
        ),
        (as_json(host="https://nmp.example", port=8443), "https://nmp.example:8443", LinkRules()),
        (as_json(host="https://nmp.example:8443/x"), "https://nmp.example:8443/x", LinkRules()),
        (as_json(host="https://nmp.example/x", port="8443"), "https://nmp.example:8443/x", LinkRules()),
        (as_json(host="nmp.example", schema="https"), "https://nmp.example", LinkRules()),
        (as_json(host="https://nmp.example", schema="https"), "https://nmp.example", LinkRules()),
        (as_json(host="http://127.0.0.1:8765"), "http://127.0.0.1:8765", LinkRules()),
        (as_json(host="http://[::1]:8765/x"), "http://[::1]:8765/x", LinkRules()),
        (f"http://:{KEY}@127.0.0.1:8765", "http://127.0.0.1:8765", LinkRules()),
        (f"http://:{KEY}@127.0.0.1:8765/", "http://127.0.0.1:8765", LinkRules()),
        (f"http://:{KEY}@sandbox:8765/nmp", "http://sandbox:8765/nmp", LinkRules()),
        (f"http://:{KEY}@[::1]:8765", "http://[::1]:8765", LinkRules()),
        (f"http://:{KEY}@https%3A%2F%2Fnmp.example/?environment=test", "https://nmp.example", LinkRules("test")),
        (f"http://:{KEY}@https%3A%2F%2Fnmp.example%2Fx%2Fy", "https://nmp.example/x/y", LinkRules()),
        (f"http://:{KEY}@https%3A%2F%2Fnmp.example%3A8443%2Fx", "https://nmp.example:8443/x", LinkRules()),
        (f"http://:{KEY}@https%3A%2F%2Fnmp.example:8443/x", "https://nmp.example:8443/x", LinkRules()),
        (
            f"http://https://:{KEY}@nmp.example:8443/x?environment=test&link_hosts=a.b,c.d",
            "https://nmp.example:8443/x",
            LinkRules("test", ("a.b", "c.d")),
        ),
        (f"https://:{KEY}@nmp.example", "https://nmp.example", LinkRules()),
        (f"https://:{KEY}@nmp.example:8443/x/y?environment=test", "https://nmp.example:8443/x/y", LinkRules("test")),
        (f"http://:{KEY}@nmp.example/https", "https://nmp.example", LinkRules()),
        (
            f"https://:{KEY}@nmp.example/?__extra__=%7B%22environment%22%3A+%22test%22%7D",
            "https://nmp.example",
            LinkRules("test"),
        ),
    ],
)
def test_every_sensible_form_of_the_connection_is_understood(
    value: str, base_url: str, rules: LinkRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NMP", value)
    assert NmpHook().nmp_connection() == NmpConnection(base_url, KEY, rules)


def test_a_key_with_characters_of_urls_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NMP", "https://:a%2Fb%40c%3Ad%3F@nmp.example")
    assert NmpHook().nmp_connection().api_key == "a/b@c:d?"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the connection nmp is not defined or cannot be parsed: set AIRFLOW_CONN_NMP, or add it in the UI"),
        (f"http://:{KEY}@https://nmp.example", "is not defined or cannot be parsed"),
        ("{" + KEY, "is not defined or cannot be parsed"),
        (as_json(host="https://nmp.example", password=None), "has no API key: put it into the connection's password"),
        (f"https://{KEY}@nmp.example", "has no API key: put it into the connection's password"),
        (as_json(), "the host of the connection nmp is ''"),
        (as_json(conn_type="generic", host="nmp.example"), "is 'nmp.example': write it with its scheme"),
        (as_json(host="ftp://nmp.example"), "write it with its scheme, like https://nmp.example"),
        (as_json(host=f"https://:{KEY}@nmp.example"), "put the API key into the password"),
        (as_json(host="https://nmp.example", extra={"environment": "prod"}), "use test, production, or leave it out"),
        (f"https://:{KEY}@nmp.example?environment=Test", "use test, production, or leave it out"),
        (as_json(host="https://nmp.example", extra={"link_hosts": 5}), "neither a list nor a string: write host names"),
        (as_json(host="https://nmp.example", extra={"link_hosts": ["https://a.b"]}), "write host names alone"),
        (
            as_json(host="https://nmp.example", extra='["environment"]'),
            "the connection nmp is not a JSON object",
        ),
    ],
)
def test_a_missing_or_wrong_connection_is_one_clear_sentence_without_the_key(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("AIRFLOW_CONN_NMP", value)
    hook = NmpHook()
    with pytest.raises(NmpConfigurationError) as raised:
        hook.nmp_connection()
    assert words in str(raised.value)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert hook.test_connection() == (False, str(raised.value))


def test_another_connection_id_is_named_in_the_error() -> None:
    with pytest.raises(NmpConfigurationError, match=r"nmp_paris is not defined .* AIRFLOW_CONN_NMP_PARIS"):
        NmpHook("nmp_paris").nmp_connection()


def test_the_connection_button_says_what_is_wrong_with_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_NMP", f"http://:{KEY}@127.0.0.1:{port}")
    works, words = NmpHook().test_connection()
    assert not works
    assert words == (
        "the count of claimed passports of tag 'passport-links-check-no-such-tag' failed at the NMP "
        f"127.0.0.1:{port}: the host of the connection nmp refused the connection (ConnectionRefusedError)"
    )


def test_a_client_takes_the_connection_and_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NMP", f"https://:{KEY}@nmp.example?environment=test")
    client = NmpHook().client(read_timeout=3, pool_size=2)
    assert client.connection == NmpConnection("https://nmp.example", KEY, LinkRules("test"))
    assert KEY not in repr(client)
    client.close()
