"""Look-up of what exists at an address, to answer requests that match no route."""

from typing import Any

from fastapi import FastAPI
from starlette.routing import Match

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def allowed_methods(app: FastAPI, scope: Any) -> list[str]:
    """Return the methods that the address of a request accepts."""
    found = [method for method in _METHODS if _matches(app, scope | {"method": method})]
    return [*found, "HEAD"] if "GET" in found else found


def path_without_slash(app: FastAPI, scope: Any) -> str | None:
    """Return the path to redirect to if an address exists without its trailing slash; None if it does not. A path, not
    a URL: a URL would contain the Host header, which the client chooses.
    """
    path: str = scope["path"]
    raw: str = scope.get("raw_path", b"").decode("ascii", "replace")
    is_plain = raw.endswith("/") and not raw.startswith("//") and "\ufffd" not in raw
    if not is_plain or not allowed_methods(app, scope | {"path": path.rstrip("/")}):
        return None
    query: str = scope["query_string"].decode("ascii", "replace")
    return raw.rstrip("/") + (f"?{query}" if query else "")


def _matches(app: FastAPI, scope: Any) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)
