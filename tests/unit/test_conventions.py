"""Conventions of this code base that a machine can hold, each with its reason."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.catalogue import load_catalogue
from agents.tools import TOOLS
from core.settings import ROOT

PACKAGES = ("core", "domain", "agents", "web", "business", "workers", "api", "cli", "embedded")


def modules(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_nobody_imports_the_queries_or_models_of_another_slice() -> None:
    # Tables and queries are free to change as long as the verbs hold.
    for path, tree in modules(*PACKAGES):
        for name in imported(tree):
            parts = name.split(".")
            if parts[0] in {"domain", "business"} and len(parts) > 2 and list(path.parts[:2]) != parts[:2]:
                assert parts[2] not in {"queries", "models"}, (
                    f"{path} imports {name}: call a verb of the slice, in its service.py or another file of it"
                )


def test_only_core_commits() -> None:
    # Who commits decides what is atomic; that is the edge's business, and stands in one file.
    for path, tree in modules("domain", "agents", "web", "workers", "api", "cli"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback"}:
                pytest.fail(f"{path}:{node.lineno} calls {node.attr}()")


def test_what_a_tenant_names_is_connected_to_at_a_checked_address_only() -> None:
    # A client that resolves names by itself reaches our own network, today or when the name's address changes.
    resolve_themselves = ("urllib.request", "httpx2", "requests", "aiohttp", "urllib3", "imap_tools", "socket.create_")
    may_be_checked = ("http.client", "smtplib", "imaplib", "ftplib")
    for path, tree in modules("domain"):
        names = list(imported(tree))
        assert not [name for name in names if name.startswith(resolve_themselves)], path
        if any(name.startswith(may_be_checked) for name in names):
            assert "core.addresses.checked_address" in names, path


def test_domain_slices_have_the_same_files() -> None:
    # Who knows one slice knows all.
    for folder in (ROOT / "domain").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            names = {path.name for path in folder.glob("*.py")}
            missing = {"__init__.py", "schemas.py", "queries.py", "service.py"} - names
            assert not missing, f"domain/{folder.name} has no {missing}"


def test_statements_ask_the_clock_that_can_be_moved() -> None:
    # The database's clock is one for all machines, and tests move it. What measures a duration has one of its own.
    for package in ("domain", "business"):
        for path in sorted((ROOT / package).rglob("queries.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                said = f"{path.relative_to(ROOT)}:{number}: write rota_now()"
                assert not re.search(r"(?<!rota_)\bnow\(\)|CURRENT_", line) or "clock_timestamp" in line, said


def test_tests_read_the_clock_when_they_run() -> None:
    # A moment read at import is minutes old when the test runs, and after midnight it is on the day before. The one
    # that records and tools share is for tests that hand it to the tool, too.
    for path, tree in modules("tests"):
        at_import = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        read = [
            node
            for part in at_import
            for node in ast.walk(part)
            if isinstance(node, ast.Attribute) and node.attr in {"now", "today", "utcnow"}
        ]
        assert len(read) == (path == Path("tests/support/factories.py")), path


def test_migrations_do_not_hide_the_library_they_run_on() -> None:
    assert not list((ROOT / "alembic").rglob("__init__.py"))


def test_lock_files_hold_hashes_and_no_address() -> None:
    for path in ROOT.glob("requirements*.lock"):
        text = path.read_text()
        assert "://" not in text
        assert "--index" not in text
        pins = re.findall(r"^[\w.\[\]-]+==", text, re.MULTILINE)
        assert len(pins) > 50
        assert text.count("--hash=sha256:") >= len(pins)


def test_the_lock_file_of_javascript_holds_hashes_and_no_address() -> None:
    lock = (ROOT / "tests" / "javascript" / "package-lock.json").read_text()
    assert "://" not in lock
    packages = [name for name in json.loads(lock)["packages"] if name]
    assert len(packages) > 5
    assert lock.count('"integrity": "sha512-') == len(packages)


def test_every_catalogue_agent_has_a_prompt_worth_having_and_tools_that_exist() -> None:
    catalogue = load_catalogue()
    assert [fields.slug for fields in catalogue] == [
        "financial-analyst", "follow-up", "lead-nurture", "operations-manager", "retention-specialist",
        "social-media-manager", "support-assistant",
    ]  # fmt: skip
    for fields in catalogue:
        assert TOOLS.unknown(fields.tools) == []
        assert len(fields.system_prompt) > 600
        assert fields.fallback_model
        assert fields.fallback_model.startswith("claude") != fields.model.startswith("claude")


def test_tools_are_offered_in_forms_both_providers_take() -> None:
    for tool in TOOLS:
        spec = tool.spec
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", spec.name)
        assert 40 < len(spec.description) < 1024
        assert spec.parameters["type"] == "object"
        assert "$defs" not in spec.parameters
        for name, field in spec.parameters["properties"].items():
            assert field.get("description"), f"{tool.name}.{name} has no description"
            assert "title" not in field
            assert "anyOf" not in field
        assert set(spec.parameters["required"]) <= set(spec.parameters["properties"])


def test_nothing_in_the_repository_names_an_address_of_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    hosts = re.compile(r"(pypi|npmjs|pythonhosted|debian)\.(org|net|com)")
    for name in listed.split():
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".lock", ".md", ".yaml", ".yml", ""} and path.is_file():
            assert not hosts.search(path.read_text(errors="replace")) or name.endswith("test_conventions.py"), name
