"""Files that users pass and texts that they edit: YAML, of which JSON is a subset."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from cli.client import fail


class _Loader(yaml.SafeLoader):
    """Reads dates as texts: the API takes JSON, which has no dates."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as block scalars, so that they can be edited."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def as_yaml(value: Any) -> str:
    """Return a value as YAML, to be read and edited."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True).rstrip()


def read_text(file: Path) -> str:
    """Return the text of a file; - stands for standard input."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except FileNotFoundError:
        fail(f"There is no file {file}.")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8 text.")


def read_yaml(file: Path) -> Any:
    """Return the value in a file of YAML or JSON."""
    return parse_yaml(read_text(file), str(file))


def parse_yaml(text: str, name: str) -> Any:
    """Return the value in a text of YAML or JSON; `name` names the text in error messages."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
        json.dumps(value, allow_nan=False)
    except yaml.YAMLError as error:
        fail(f"{name} is not valid YAML: {error}")
    except RecursionError:
        fail(f"{name} is nested too deeply.")
    except (TypeError, ValueError) as error:
        fail(f"{name} contains a value that JSON cannot express: {error}.")
    return value


def read_mapping(file: Path) -> dict[str, Any]:
    """Return the mapping in a file of YAML or JSON; exit with a message if it holds anything else."""
    return mapping(read_yaml(file), str(file))


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a value that must be a mapping; exit with a message if it is not."""
    if not isinstance(value, dict):
        fail(f"{name} must contain names and values, such as `name: Support`.")
    return value


def edited(text: str) -> str:
    """Open a text in the user's editor and return the result, or the text unchanged if the editor fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="rota-") as folder:
        file = Path(folder) / "edit.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(editor), str(file)], check=False)
        except (OSError, ValueError) as error:
            fail(f"The editor {editor!r} does not start: {error}. Set EDITOR, or use options or --file.")
        return text if done.returncode else read_text(file)
