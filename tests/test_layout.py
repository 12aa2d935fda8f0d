"""The rooms: their order, the direction of imports, their size; every config loads."""

import ast
import pathlib
import re

import pytest

from recap_tf import settings
from recap_tf.core.config import gin_config
from twhin_tf import settings as twhin_settings

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ["recap_tf", "recap_tf.core", "twhin_tf", "serving"]
COMMANDS = {
    "recap_tf": {
        "calibrate",
        "convert",
        "engagement_edges",
        "evaluate",
        "export",
        "inspect",
        "join_vectors",
        "synthetic",
        "train",
    },
    "recap_tf.core": set(),
    "twhin_tf": {"evaluate", "export", "synthetic", "train", "vocabulary"},
    "serving": {"compare", "deploy", "loadtest", "score", "server"},
}
MOST_LINES = 350
MOST_MODULES = 20


def _modules() -> dict[str, pathlib.Path]:
    """Dotted name -> file, of every module of the packages."""
    modules = {}
    for package in ("recap_tf", "twhin_tf", "serving"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


MODULES = _modules()


def _imports(path: pathlib.Path) -> set[str]:
    """The modules of ours that the file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import."
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    return names & set(MODULES)


IMPORTS = {name: _imports(path) - {name} for name, path in MODULES.items()}


def _rooms(package: str) -> list[str]:
    """The rooms in the order of the package's docstring, commands left out."""
    text = ast.get_docstring(ast.parse(MODULES[package].read_text()))
    return re.findall(r"^    (\w+) +\S", text, re.MULTILINE)


def _room(module: str, package: str) -> str:
    """The room of `package` that holds the module; "" for the package itself."""
    return module.removeprefix(package).removeprefix(".").split(".")[0]


def _inside(package: str) -> dict[str, set[str]]:
    """Module of the package -> those of the package that it imports."""
    inside = {name for name in MODULES if f"{name}.".startswith(f"{package}.")}
    return {name: IMPORTS[name] & inside for name in inside}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_names_every_room_once(package):
    rooms = _rooms(package)
    existing = {_room(name, package) for name in _inside(package)} - {""}
    assert len(rooms) == len(set(rooms))
    assert set(rooms) | COMMANDS[package] == existing
    assert not set(rooms) & COMMANDS[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_imports_one_below_it(package):
    place = {room: number for number, room in enumerate(_rooms(package))}
    for name, imported in _inside(package).items():
        here = place.get(_room(name, package), len(place))
        for other in imported - {package}:
            room = _room(other, package)
            if room != _room(name, package):
                assert place.get(room, len(place) + 1) < here, (name, other)


def test_nothing_imports_a_command():
    commands = {f"{p}.{name}" for p, names in COMMANDS.items() for name in names}
    for name, imported in IMPORTS.items():
        assert not imported & commands, name


def test_the_packages_do_not_import_each_other():
    for name, imported in IMPORTS.items():
        package = name.split(".")[0]
        for other in imported:
            if other.split(".")[0] != package:
                # Whoever imports recap_tf.core has recap_tf's choice of Keras, too.
                shared = other == "recap_tf" or other.startswith("recap_tf.core")
                assert package == "twhin_tf" and shared, (name, other)
    for name in MODULES:
        if name.startswith("recap_tf.core"):
            outside = {m for m in IMPORTS[name] if not m.startswith("recap_tf.core")}
            assert not outside, (name, outside)


def test_no_circle():
    open_, closed = [], set()

    def visit(name: str) -> None:
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name not in closed:
            open_.append(name)
            for other in sorted(IMPORTS[name]):
                visit(other)
            open_.pop()
            closed.add(name)

    for name in MODULES:
        visit(name)


def test_files_and_rooms_stay_small():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in MODULES.values()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long
    folders = {path.parent for path in MODULES.values()}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := len(list(folder.glob("[!_]*.py")))) > MOST_MODULES
    }
    assert not crowded


@pytest.mark.parametrize(
    "name", sorted(p.name for p in (ROOT / "configs").glob("*.gin"))
)
def test_every_config_loads(name):
    roots = (twhin_settings if name.startswith("twhin") else settings).ROOTS
    gin_config.load(str(ROOT / "configs" / name), roots=roots)
    assert gin_config.operative()


def test_the_production_config_is_short():
    lines = (ROOT / "configs" / "recap.gin").read_text().splitlines()
    assert len(lines) <= 140
