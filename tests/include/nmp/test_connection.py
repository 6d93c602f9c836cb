"""What a person configures for the connection ``nmp``, and the error for each mistake."""

import pytest

from include.nmp.answers import LinkRules
from include.nmp.connection import NmpConnection
from include.nmp.errors import (
    NmpConfigurationError,
)
from tests.include.nmp.raw_server import (
    KEY,
)


def test_a_connection_is_tidied_and_hides_its_key() -> None:
    connection = NmpConnection.validated(
        " https://nmp.example:8443/base/ ", f" {KEY}\n", "test", [" Links.Brand.Example", "", "links.brand.example"]
    )
    assert connection == NmpConnection(
        "https://nmp.example:8443/base", KEY, LinkRules("test", ("links.brand.example",))
    )
    assert KEY not in repr(connection)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"api_key": None}, "the connection nmp has no API key: put it into the connection's password"),
        ({"api_key": "  "}, "has no API key"),
        ({"api_key": KEY + "\r\nx: y"}, "has characters that no HTTP header can hold"),
        ({"api_key": KEY + "é"}, "has characters that no HTTP header can hold"),
        ({"base_url": ""}, "the host of the connection nmp is ''"),
        ({"base_url": "nmp.example"}, "is 'nmp.example': write it with its scheme, like https://nmp.example"),
        ({"base_url": "ftp://nmp.example"}, "write it with its scheme"),
        ({"base_url": "https://"}, "has no valid host name"),
        ({"base_url": "https:///base"}, "has no valid host name"),
        ({"base_url": "https://nmp example"}, "has no valid host name"),
        ({"base_url": "https://nmp.example:port"}, "is not a URL"),
        ({"base_url": "https://[::1"}, "is not a URL"),
        ({"base_url": f"https://:{KEY}@nmp.example"}, "put the API key into the password"),
        ({"base_url": f"https://nmp.example?key={KEY}"}, "put the API key into the password"),
        ({"base_url": f"https://nmp.example#{KEY}"}, "put the API key into the password"),
        ({"environment": "prod"}, "has the environment 'prod': use test, production, or leave it out"),
        ({"link_hosts": ["https://a.b"]}, "link_hosts of the connection nmp has 'https://a.b': write host names alone"),
        (
            {"environment": "test", "link_hosts": ["arianee.net"]},
            "has the environment test and in link_hosts arianee.net",
        ),
    ],
)
def test_a_wrong_connection_is_one_clear_sentence_without_the_key(fields: dict[str, object], words: str) -> None:
    given = {"base_url": "https://nmp.example", "api_key": KEY, **fields}
    with pytest.raises(NmpConfigurationError) as raised:
        NmpConnection.validated(**given)  # type: ignore[arg-type]
    assert words in str(raised.value)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
