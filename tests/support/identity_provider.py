"""An identity provider on a port of this machine: a discovery document, published keys, and tokens signed with the private ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey


class IdentityProvider:
    """Has a key of each kind. `requests` counts how often its keys were asked for; `broken` makes it answer 500."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {
            "rsa-1": RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"}),
            "ec-1": ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"}),
        }
        self.published: dict[str, Any] = {name: key.as_dict(private=False) for name, key in self.keys.items()}
        self.requests, self.broken = 0, False
        self.issuer = ""

    def rotate(self, kid: str) -> None:
        """Publish a new key instead of all others."""
        self.keys[kid] = RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})
        self.published = {kid: self.keys[kid].as_dict(private=False)}

    def token(self, claims: dict[str, Any], kid: str = "rsa-1", *, alg: str = "", key: Key | None = None) -> str:
        alg = alg or ("ES256" if kid.startswith("ec") else "RS256")
        return jwt.encode({"alg": alg, "kid": kid, "typ": "JWT"}, claims, key or self.keys[kid], algorithms=[alg])

    def document(self, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        if path == "/keys":
            self.requests += 1
            return {"keys": list(self.published.values())}
        return None


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """Serve one until the block ends."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = provider.document(self.path)
            status = 500 if provider.broken else 404 if document is None else 200
            body = msgspec.json.encode(document)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
