"""The order of the rooms: who may import whom.

`ROOMS` is the declared order, from the ground up. A room, which is a package or a module of
``wsi_engine``, imports only from floors below its own, wherever in a file the import stands; rooms
on one floor know nothing of each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import wsi_engine

PACKAGE = Path(wsi_engine.__file__).parent

ROOMS = """
errors   version   closing   digests   plugins kernel_cache kernels installing
writing  study
slide    bundled_files
schedule phantom
nuclei
config   models    store     qupath
sample   results   evaluation
convert  corrections regions
training
export   report   view
engine
archive  doctor
cli
__main__
"""

FLOOR = {
    room: floor for floor, rooms in enumerate(ROOMS.strip().splitlines()) for room in rooms.split()
}


class Import(NamedTuple):
    """One import of one file, ``wsi_engine/...``, from another."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def room_of(file: str) -> str:
    """Name the room of a file: ``slide`` of ``slide/frames.py``, ``config`` of ``config.py``."""
    return file.partition("/")[0].removesuffix(".py")


def imports_in(root: Path) -> list[Import]:
    """Return the imports between the files of a package, those within functions as well."""
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for names in dotted_names(node, path, root):
                imported = file_of(names, root)
                if imported is not None:
                    importer = path.relative_to(root).as_posix()
                    found.append(Import(importer, node.lineno, imported))
    return found


def dotted_names(node: ast.AST, path: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Yield what a statement imports from the package, as names below it."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            package, *names = alias.name.split(".")
            if package == root.name:
                yield tuple(names)
    elif isinstance(node, ast.ImportFrom):
        stem = tuple((node.module or "").split(".")) if node.module else ()
        if node.level:
            above = path.relative_to(root.parent).parts[: -node.level]
            stem = (*above, *stem)
        if stem[:1] == (root.name,):
            for alias in node.names:
                yield (*stem[1:], alias.name)


def file_of(names: tuple[str, ...], root: Path) -> str | None:
    """Find the file that defines a dotted name; none for the package's own public names."""
    while names:
        place = root.joinpath(*names)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file.relative_to(root).as_posix()
        names = names[:-1]
    return None


def circle_in(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return some circle, from an importer to what it imports and so back to it; [] for none."""
    graph: dict[str, set[str]] = {}
    for importer, imported in edges:
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def against_the_order(imports: Iterable[Import]) -> list[Import]:
    """Return the imports from a room's own floor or from above."""
    return [
        it
        for it in imports
        if room_of(it.importer) != room_of(it.imported)
        and FLOOR[room_of(it.imported)] >= FLOOR[room_of(it.importer)]
    ]


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    # The front door has names of all rooms; what is behind it does not go through it.
    return [it for it in imports_in(PACKAGE) if it.importer != "__init__.py"]


def test_every_room_has_a_floor():
    rooms = {room_of(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == FLOOR.keys()


def test_the_page_for_contributors_shows_the_same_floors():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| floor | rooms |\n|---|---|\n")[2].partition("\n\n")[0]
    floors = [re.findall(r"`(\w+)(?:/|\.py)`", row) for row in reversed(table.splitlines())]
    assert [sorted(rooms) for rooms in floors] == [
        sorted(rooms.split()) for rooms in ROOMS.strip().splitlines()
    ]


def test_every_import_points_down(imports):
    wrong = against_the_order(imports)
    assert not wrong, "against the order of the rooms:\n" + "\n".join(map(str, wrong))


def test_there_is_no_circle_of_rooms(imports):
    circle = circle_in((room_of(it.importer), room_of(it.imported)) for it in imports)
    assert not circle, "a circle of rooms: " + " -> ".join(circle)


def test_there_is_no_circle_of_files(imports):
    circle = circle_in((it.importer, it.imported) for it in imports)
    assert not circle, "a circle of files: " + " -> ".join(circle)


def test_nobody_inside_comes_in_by_the_front_door():
    statements = (
        (path, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    names = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path, node in statements
        for dotted in dotted_names(node, path, PACKAGE)
        if file_of(dotted, PACKAGE) is None
    ]
    assert not names, f"import from the room that has it: {names}"


def test_training_knows_no_method_by_its_name(imports):
    """It looks methods up; what one learns stands beside its network and its decoder."""
    by_name = [
        str(it)
        for it in imports
        if it.importer.startswith("training/")
        and it.imported.startswith(("models/starconvex/", "models/dense/", "models/maskrcnn/"))
    ]
    assert not by_name


# The rules are kept because they can be broken


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Build a small house of two files on different floors, in good order."""
    root = tmp_path / "wsi_engine"
    for room in ("slide", "models"):
        (root / room).mkdir(parents=True)
        (root / room / "__init__.py").touch()
    (root / "slide" / "frames.py").write_text("import numpy\n")
    (root / "models" / "protocol.py").write_text("from wsi_engine.slide import frames\n")
    return root


def test_an_import_is_found_in_every_form(house):
    forms = {
        "import wsi_engine.slide.frames": "slide/frames.py",
        "from wsi_engine.slide import frames": "slide/frames.py",
        "from wsi_engine.slide.frames import Mpp": "slide/frames.py",
        "from ..slide.frames import Mpp": "slide/frames.py",
        "from .protocol import Model": "models/protocol.py",
        "def late():\n    from wsi_engine.slide.frames import Mpp": "slide/frames.py",
        "if TYPE_CHECKING:\n    import wsi_engine.slide": "slide/__init__.py",
    }
    for form, imported in forms.items():
        (house / "models" / "user.py").write_text(form + "\n")
        found = [it for it in imports_in(house) if it.importer == "models/user.py"]
        assert [it.imported for it in found] == [imported], form


def test_an_import_from_above_is_named(house):
    assert against_the_order(imports_in(house)) == []
    late = "def late():\n    import wsi_engine.models.protocol\n"
    (house / "slide" / "frames.py").write_text(late)
    [wrong] = against_the_order(imports_in(house))
    assert str(wrong) == "slide/frames.py:2 imports models/protocol.py"
    circle = circle_in((it.importer, it.imported) for it in imports_in(house))
    assert set(circle) == {"slide/frames.py", "models/protocol.py"}
    assert circle[0] == circle[-1]


def test_neighbours_on_one_floor_do_not_know_each_other(house):
    (house / "store").mkdir()
    (house / "store" / "parts.py").write_text("import wsi_engine.models.protocol\n")
    assert [it.importer for it in against_the_order(imports_in(house))] == ["store/parts.py"]
