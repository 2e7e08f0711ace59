"""No module imports itself by a detour, imports for annotations included."""

from __future__ import annotations

import grimp

ROOTS = ("harness", "attacks", "defenses", "reports", "suites")


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; nothing where there is none."""
    left = {module: set(found) & imports.keys() for module, found in imports.items()}
    while leaves := [module for module, found in left.items() if not found]:
        for leaf in leaves:
            del left[leaf]
        for found in left.values():
            found.difference_update(leaves)
    path = [min(left)] if left else []
    while path and path[-1] not in path[:-1]:
        path.append(min(left[path[-1]]))
    return path


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["a", "b", "c", "b"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_there_is_none():
    graph = grimp.build_graph(*ROOTS, exclude_type_checking_imports=False, cache_dir=None)
    assert len(graph.modules) > 200
    assert circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []
