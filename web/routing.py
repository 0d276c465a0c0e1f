"""What there is at an address: for answers to requests that no route takes."""

from typing import Any

from fastapi import FastAPI
from starlette.routing import Match

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def allowed_methods(app: FastAPI, scope: Any) -> list[str]:
    """The methods that the address of a request takes."""
    found = [method for method in _METHODS if _matches(app, scope | {"method": method})]
    return [*found, "HEAD"] if "GET" in found else found


def path_without_slash(app: FastAPI, scope: Any) -> str | None:
    """Where a request for an address with a slash too many should go: a path, without the name of a server, which
    would be the one in the Host header, whoever wrote that. None where there is nothing either.
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
