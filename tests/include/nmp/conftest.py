"""Raw servers, clients that call them, and a TLS certificate."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from tests.include.nmp.raw_server import KEY, Building, Serve, Server, Starting


@pytest.fixture
def server() -> Iterator[Starting]:
    """Start servers: ``server(script, tls=…)``."""
    with ExitStack() as stack:

        def start(serve: Serve, tls: ssl.SSLContext | None = None) -> Server:
            started = Server(serve, tls)
            stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def client() -> Iterator[Building]:
    """Build clients: ``client(url, key=…, **options)``."""
    with ExitStack() as stack:

        def build(url: str, key: str = KEY, **options: object) -> NmpClient:
            built = NmpClient(NmpConnection.validated(url, key), **options)  # type: ignore[arg-type]
            stack.callback(built.close)
            return built

        yield build


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "authority.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem


@pytest.fixture(scope="session")
def server_tls(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    return context
