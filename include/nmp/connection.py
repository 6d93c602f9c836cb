"""The connection to the NMP: its base URL, its API key and the links that it accepts, checked before any call."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from include.nmp.answers import LINK_HOSTS, Environment, LinkRules
from include.nmp.errors import NmpConfigurationError

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True)
class NmpConnection:
    """Where the NMP is and with which key to call it; ``base_url`` has a scheme and no trailing slash."""

    base_url: str
    api_key: str = field(repr=False)
    rules: LinkRules = field(default_factory=LinkRules)

    @property
    def host(self) -> str:
        """The host, and the port if there is one, for messages."""
        return urlsplit(self.base_url).netloc

    @property
    def encrypted(self) -> bool:
        """Whether calls use TLS."""
        return self.base_url.startswith("https:")

    @classmethod
    def validated(
        cls,
        base_url: str,
        api_key: str | None,
        environment: str | None = None,
        link_hosts: Iterable[str] = (),
    ) -> "NmpConnection":
        """Check what a person configured.

        ``environment`` is ``test`` or ``production``, ``link_hosts`` are host names alone; unset, both accept any link.
        Raises NmpConfigurationError, one sentence that never holds the key.
        """
        key = (api_key or "").strip()
        if not key:
            message = "the connection nmp has no API key: put it into the connection's password"
            raise NmpConfigurationError(message)
        if not key.isascii() or not key.isprintable():
            message = "the API key of the connection nmp has characters that no HTTP header can hold: copy it again"
            raise NmpConfigurationError(message)
        known = environment or None
        if known is not None and known not in list(Environment):
            message = f"the connection nmp has the environment {known!r}: use test, production, or leave it out"
            raise NmpConfigurationError(message)
        return cls(_checked_url(base_url), key, LinkRules(known, _checked_hosts(link_hosts, known)))


def _checked_url(base_url: str) -> str:
    """Give the base URL without trailing slash; an error quotes it only if it cannot hold a secret."""
    try:
        parts = urlsplit(base_url.strip())
        _ = parts.port  # raises if it is not a number
    except ValueError:
        message = "the host of the connection nmp is not a URL: write it like https://nmp.example"
        raise NmpConfigurationError(message) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        message = (
            "the host of the connection nmp may have a scheme, host, port and path, and has more: write it like "
            "https://nmp.example and put the API key into the password"
        )
    elif parts.scheme not in ("http", "https"):
        message = f"the host of the connection nmp is {base_url!r}: write it with its scheme, like https://nmp.example"
    elif not parts.hostname or re.search(r"[^!-~]", base_url.strip()):
        message = (
            f"the host of the connection nmp is {base_url!r}, which has no valid host name: write it like "
            "https://nmp.example"
        )
    else:
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    raise NmpConfigurationError(message)


def _checked_hosts(link_hosts: Iterable[str], environment: str | None) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(host.strip().lower() for host in link_hosts if host.strip()))
    for host in hosts:
        if not _HOST.fullmatch(host):
            message = f"link_hosts of the connection nmp has {host!r}: write host names alone, like links.brand.example"
            raise NmpConfigurationError(message)
        for other, its_hosts in LINK_HOSTS.items():
            if environment and other != environment and host in its_hosts:
                message = (
                    f"the connection nmp has the environment {environment} and in link_hosts {host}, a host of "
                    f"{other.value}: correct one of the two"
                )
                raise NmpConfigurationError(message)
    return hosts
