"""The fragments of SQL that slices write for each other's statements."""

import importlib
import pkgutil

import business
import domain
from core.fragments import Fragment


def fragments() -> list[Fragment]:
    """Every fragment that a module of the domain or of the pack holds, once, by name."""
    found = {
        value
        for package in (domain, business)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, Fragment)
    }
    return sorted(found, key=lambda fragment: fragment.name)
