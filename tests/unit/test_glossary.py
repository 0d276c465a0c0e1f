"""One word for one thing: names that the glossary replaced do not come back."""

import ast
import re

import pytest

from core.settings import ROOT

PACKAGES = ("core", "domain", "agents", "web", "business", "workers", "api", "cli", "embedded", "sdk")
# A name that was replaced, and the word that stands for it now. Whole words of a name, split at its underscores and
# capitals, in the order given.
REPLACED = {
    "purse": "funds",
    "books": "reference cache",
    "deed": "event",
    "doer": "actor",
    "departure": "outcome",
    "take_back": "refund, unpublish, reap or reclaim",
    "take_off": "subtract",
    "is_again": "may_be_committed",
    "let_go_on": "resume or unblock",
    "hold_back": "block",
    "set_aside": "freeze",
}


def _words(name: str) -> str:
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"


def _names(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_names_use_the_words_of_the_glossary(package: str) -> None:
    banned = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in _names(ast.parse(path.read_text())):
            for replaced, instead in REPLACED.items():
                if f"_{replaced}_" in _words(name):
                    banned[f"{path.relative_to(ROOT)}: {name}"] = instead
    assert banned == {}


def test_the_glossary_tells_of_what_was_replaced() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    for replaced in ("purse", "books", "deed", "doer", "departure", "take back", "hold", "go", "terms", "line"):
        assert re.search(rf"\| [^|\n]*\b{replaced}\b[^|\n]* \|$", glossary, re.MULTILINE), replaced
