"""Reads the project's sources: lengths, names, calls. Each check takes text, so that it can be shown to bite."""

import ast
from pathlib import Path

from tests.tidy.documents import ROOT

__all__ = ["BANNED", "all_names", "in_order", "long_functions", "sleeps", "sources"]

BANNED = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def sources(*folders: str) -> list[Path]:
    """All Python files in these folders."""
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def long_functions(text: str, most: int) -> list[str]:
    """Functions with more lines than that."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [f"{f.name}: {length}" for f in functions if (length := (f.end_lineno or 0) - f.lineno + 1) > most]


def all_names(text: str) -> list[str] | None:
    """What `__all__` lists, None if there is none."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def in_order(names: list[str]) -> list[str]:
    """Constants, classes, the rest; each by name."""
    return sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))


def sleeps(text: str) -> list[int]:
    """The lines that call `time.sleep`, however it was imported."""
    tree = ast.parse(text)
    bare = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name == "sleep"
    }
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_sleep(node.func, bare)]


def _is_sleep(function: ast.expr, bare: set[str]) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "sleep" and isinstance(function.value, ast.Name) and function.value.id == "time"
    return isinstance(function, ast.Name) and function.id in bare
