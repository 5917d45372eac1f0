"""The store over TLS: who is trusted, and who is not."""

import datetime as dt
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kafka_once import ConfigurationError
from kafka_once.core.claims import Grant
from kafka_once.errors import StoreRefused
from kafka_once.ports import Namespace
from kafka_once.settings import Settings
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import start_redis
from kafka_once.testing.services.process import free_port
from kafka_once.testing.store_workers import Worker, digest
from tests.conftest import or_skip

pytestmark = pytest.mark.integration


class Issued(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def issue(name: str, names: list[x509.GeneralName], by: Issued | None = None) -> Issued:
    """A certificate of an authority (itself, if `by` is None), valid for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(tz=dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(builder.sign(key if by is None else by.key, hashes.SHA256()), key)


def written(issued: Issued, folder: Path, name: str) -> tuple[str, str]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(issued.certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        issued.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(certificate), str(key)


class Guarded(NamedTuple):
    port: int
    authority: str  # its file
    another: str  # of one that has signed nothing here


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Redis that speaks TLS on one port; its certificate is for `localhost`, and for no address."""
    folder = tmp_path_factory.mktemp("tls")
    authority, another = issue("authority", []), issue("another", [])
    certificate, key = written(issue("server", [x509.DNSName("localhost")], authority), folder, "server")
    port, (trusted, _) = free_port(), written(authority, folder, "authority")
    config = {"tls-port": str(port), "tls-cert-file": certificate, "tls-key-file": key, "tls-auth-clients": "no"}
    with or_skip(lambda: start_redis("local", config=config)):
        yield Guarded(port, trusted, written(another, folder, "another")[0])


def store(url: str) -> RedisStore:
    return RedisStore(url, Namespace("c", secrets.token_hex(8)), lease_ms=30_000, timeout_ms=5_000)


def test_claims_are_made_over_tls(guarded: Guarded) -> None:
    opened = store(f"rediss://localhost:{guarded.port}/0?ssl_ca_certs={guarded.authority}")
    opened.check()
    worker = Worker(opened)

    assert worker.claim(digest("key"), worker.own()).grant is Grant.ACQUIRED
    opened.close()


@pytest.mark.parametrize("query", ["", "?ssl_ca_certs={0.another}"])
def test_a_certificate_of_an_unknown_authority_is_refused(guarded: Guarded, query: str) -> None:
    with pytest.raises(StoreRefused, match="its TLS certificate is not trusted"):
        store(f"rediss://localhost:{guarded.port}/0{query.format(guarded)}").check()


def test_a_certificate_for_another_name_is_refused(guarded: Guarded) -> None:
    with pytest.raises(StoreRefused, match="its TLS certificate is not trusted"):
        store(f"rediss://127.0.0.1:{guarded.port}/0?ssl_ca_certs={guarded.authority}").check()


@pytest.mark.parametrize("scheme", ["rediss://host", "rediss+cluster://host", "rediss+sentinel://host/service/0"])
@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=none", "ssl_cert_reqs=NONE", "ssl_cert_reqs=optional", "ssl_check_hostname=no"]
)
def test_to_trust_anybody_is_refused_before_anything_is_asked(scheme: str, query: str) -> None:
    with pytest.raises(ConfigurationError, match="ssl_ca_certs") as refused:
        Settings(bootstrap_servers="localhost", group="g", store=f"{scheme}?{query}")

    assert "store='rediss" in str(refused.value)
