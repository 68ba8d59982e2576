"""Checks the server's certificate, because aioquic cannot check those that ``selium-runtime generate-certs`` makes.

They state ``CA:FALSE`` although that is the default, which DER forbids, and the package ``cryptography`` refuses to read
any extension of such a certificate ("EncodedDefault"). So the chain is checked by OpenSSL, as aioquic does it, and the
name with a reader of just enough DER.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from OpenSSL import crypto

_SEQUENCE = 0x30
_OBJECT_ID = 0x06
_OCTETS = 0x04
_EXTENSIONS = 0xA3
_DNS_NAME = 0x82
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")


class CertificateError(Exception):
    """The server is not who it should be."""


def check(certificate: x509.Certificate, chain: Sequence[x509.Certificate], ca_file: Path, name: str) -> None:
    """Raises unless the CA vouches for a certificate of this name that is valid now."""
    now = datetime.now(timezone.utc)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CertificateError("the server's certificate is not valid now")
    names = dns_names(certificate.tbs_certificate_bytes)
    if name.lower() not in names:
        raise CertificateError(f"the server's certificate is for {names}, not for {name}")
    store = crypto.X509Store()
    store.load_locations(str(ca_file))
    others = [crypto.X509.from_cryptography(other) for other in chain]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate), others).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise CertificateError(f"{ca_file} does not vouch for the server: {error}") from error


def dns_names(tbs_certificate: bytes) -> list[str]:
    """The DNS names in the subject's alternative names. Wildcards are returned as they are and match nothing."""
    names = []
    for extensions in _inside(_single(tbs_certificate, _SEQUENCE), _EXTENSIONS):
        for extension in _inside(_single(extensions, _SEQUENCE), _SEQUENCE):
            parts = list(_elements(extension))
            if parts[:1] == [(_OBJECT_ID, _SUBJECT_ALT_NAME)] and parts[-1][0] == _OCTETS:
                inner = _single(parts[-1][1], _SEQUENCE)
                names += [value.decode("ascii", "replace").lower() for value in _inside(inner, _DNS_NAME)]
    return names


def _single(data: bytes, tag: int) -> bytes:
    found = list(_elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise CertificateError("the server's certificate cannot be read")
    return found[0][1]


def _inside(data: bytes, tag: int) -> Iterator[bytes]:
    return (value for found, value in _elements(data) if found == tag)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags (of one byte) and values, one behind the other."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise CertificateError("the server's certificate is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise CertificateError("the server's certificate is cut off")
        yield tag, data[at : at + length]
        at += length
