"""What the environment says about the network: its proxies and certificates, read as httpx does."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

_CA_FILES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where systems keep their certificates, for an OpenSSL that was built for another system."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` by scheme; what ``NO_PROXY`` excepts."""

    by_scheme: dict[str, str]
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Proxies:
        """As they are set now, in the system settings of macOS and Windows too."""
        found = getproxies()
        exceptions = tuple(part.strip() for part in found.get("no", "").split(",") if part.strip())
        if "*" in exceptions:
            return cls({})
        by_scheme = {
            scheme: found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}"
            for scheme in ("http", "https", "all")
            if found.get(scheme)
        }
        return cls(by_scheme, exceptions)

    def of(self, url: str) -> str | None:
        """The proxy to ask for ``url``, or ``None`` to ask its host.

        >>> proxies = Proxies({"https": "http://proxy:3128"}, ("example.com",))
        >>> proxies.of("https://api.openai.com/v1"), proxies.of("https://api.example.com/v1")
        ('http://proxy:3128', None)
        """
        target = urlsplit(url)
        proxy = self.by_scheme.get(target.scheme) or self.by_scheme.get("all")
        if proxy is None or any(_excepts(entry, target) for entry in self.exceptions):
            return None
        return proxy


def _excepts(entry: str, target: SplitResult) -> bool:
    """Whether an entry of ``NO_PROXY`` (a host, domain, address, network or URL) means a URL."""
    host = (target.hostname or "").lower()
    try:
        network = ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        pass
    else:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False  # a name is not looked up
    try:
        rule = urlsplit(entry if "://" in entry else f"all://{entry}")
        name, port = (rule.hostname or "").lower(), rule.port
    except ValueError:
        return False
    if rule.scheme not in ("all", target.scheme):
        return False
    if port is not None and port != (target.port or _PORTS.get(target.scheme)):
        return False
    if name.startswith(("*.", ".")):
        return host.endswith(name.removeprefix("*"))
    subdomains = "://" not in entry and name != "localhost"
    return host == name or (subdomains and host.endswith(f".{name}"))


def ssl_context(*, trust_env: bool = True) -> ssl.SSLContext:
    """A context that trusts ``SSL_CERT_FILE``, else ``SSL_CERT_DIR``, else what the system trusts.

    Raises ``OSError`` where these name what cannot be read.
    """
    file = os.environ.get("SSL_CERT_FILE") if trust_env else None
    folder = os.environ.get("SSL_CERT_DIR") if trust_env else None
    return _ssl_context(file or None, folder or None)


@lru_cache(maxsize=4)  # reading the system's certificates takes tens of milliseconds
def _ssl_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    context: ssl.SSLContext
    if file or folder:
        context = ssl.create_default_context(cafile=file, capath=None if file else folder)
    elif sys.platform in ("win32", "darwin"):
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        file, folder = _system_certificates()
        if file or folder:
            context.load_verify_locations(file, folder)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _system_certificates() -> tuple[str | None, str | None]:
    """The certificate file and folder of this system, those OpenSSL was built with first."""
    built = ssl.get_default_verify_paths()
    file = built.openssl_cafile if Path(built.openssl_cafile).is_file() else None
    folder = built.openssl_capath if Path(built.openssl_capath).is_dir() else None
    if file is None and folder is not None:
        names = (path.name for path in Path(folder).iterdir())
        if not any(re.fullmatch(r"[0-9a-f]{8}\.\d", name, re.IGNORECASE) for name in names):
            folder = None  # not hashed: OpenSSL finds nothing in it
    if file is None and folder is None:
        file = next((path for path in _CA_FILES if Path(path).is_file()), None)
    return file, folder
