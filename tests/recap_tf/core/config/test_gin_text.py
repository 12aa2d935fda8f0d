"""Gin files and --set texts as bindings: includes, {here}, syntax, missing files."""

import pytest

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_text


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path):
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def read(path: str) -> dict:
    """Name -> value; what is overridden is gone."""
    return {b.name: b.value for b in gin_text.read_file(path).bindings}


def refusal(path: str) -> str:
    with pytest.raises(UserError) as caught:
        gin_text.read_file(path)
    return str(caught.value)


def test_bindings_know_their_place_and_keep_references_as_text(write):
    write("a.gin", "\nx/A.b = [@y/z/C, %m]\nA:\n  c = @C()\nm = 3")
    first, second, macro = gin_text.read_file("a.gin").bindings
    reference, use = first.value
    assert (first.where, first.name) == ("a.gin:2", "x/A.b")
    assert (reference.scope, reference.name, reference.evaluate) == ("y/z", "C", False)
    assert use == gin_text.Macro("m")
    assert (second.where, repr(second.value)) == ("a.gin:4", "@C()")
    assert macro.key == ("m", "gin.macro", "value")


def test_a_file_overrides_its_include_wherever_that_line_stands(write):
    write("base.gin", "A.b = 3\nA.c = 0.5")
    write("a.gin", "A.b = 4\ninclude 'base.gin'")
    assert read("a.gin") == {"A.b": 4, "A.c": 0.5}


def test_later_includes_override_earlier_ones_and_each_file_counts_once(write):
    write("base.gin", "A.b = 1\nA.c = 1")
    write("one.gin", "include 'base.gin'\nA.b = 2\nA.d = 2")
    write("two.gin", "include 'base.gin'\nA.d = 3")
    write("a.gin", "include 'one.gin'\ninclude 'two.gin'")
    assert read("a.gin") == {"A.b": 2, "A.c": 1, "A.d": 3}


def test_includes_resolve_from_the_including_file_first(write):
    write("configs/sub/a.gin", "include '../base.gin'")
    write("configs/base.gin", "include 'c.gin'")
    write("configs/c.gin", "A.b = 3")
    write("c.gin", "A.b = 4")
    assert read("configs/sub/a.gin") == {"A.b": 3}


def test_includes_resolve_next_from_the_folder_that_holds_the_package(
    write, tmp_path, monkeypatch
):
    write("elsewhere/recap_tf/base.gin", "A.b = 3")
    write("a.gin", "include 'recap_tf/base.gin'")
    monkeypatch.setattr(gin_text, "_PROJECT", tmp_path / "elsewhere")
    assert read("a.gin") == {"A.b": 3}


def test_a_missing_include(write, monkeypatch):
    monkeypatch.setattr(gin_text, "_PROJECT", "/elsewhere")
    write("a.gin", "\ninclude 'sub/no.gin'")
    assert refusal("a.gin") == (
        "a.gin:2: there is no file 'sub/no.gin' to include in sub or /elsewhere/sub."
    )


def test_a_circle_of_includes(write):
    write("a.gin", "include 'b.gin'")
    write("b.gin", "\ninclude 'a.gin'")
    assert refusal("a.gin") == (
        "b.gin:2: the includes go round in a circle: a.gin -> b.gin -> a.gin."
    )


@pytest.mark.parametrize(
    "path, folder", [("b.gin", "."), ("x/y/b.gin", "x/y"), ("./x/b.gin", "./x")]
)
def test_here_is_the_folder_of_the_file_it_stands_in(write, path, folder):
    write(path, "A.b = {'a': ['{here}/c', 3]}\nm = '{here}'")
    write("main.gin", f"include '{path}'")
    expected = {"A.b": {"a": [f"{folder}/c", 3]}, "%m": folder}
    assert read(path) == expected
    assert read("main.gin")["%m"] == folder.removeprefix("./")


@pytest.mark.parametrize("path", ["no.gin", "folder"])
def test_a_missing_file(path, tmp_path):
    (tmp_path / "folder").mkdir()
    assert refusal(path) == f"The config file {path} does not exist."


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "a.gin").write_bytes(b"\x1f\x8b\xff\xfe")
    assert refusal("a.gin") == "a.gin is not a gin file: it is not text."


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "A.b = data",
            "a.gin:1: data is not a gin value. Does a string lack its quotes? "
            "Received: A.b = data",
        ),
        ("\nA.b 3", "a.gin:2: expected Class.parameter = value. Received: A.b 3"),
        (
            "A.b = 3 4",
            "a.gin:1: this is not gin: Expected newline. Received: A.b = 3 4",
        ),
        (
            "A.b = [1,\n2,\n",
            "a.gin:2: a bracket or string is not closed at the end of the file. "
            "Received: 2,",
        ),
        (
            "A:\nb = 3",
            "a.gin:2: this is not gin: Expected indentation.  Got NAME = b. "
            "Received: b = 3",
        ),
        ("A.b = ", "a.gin:1: this is not gin: Unable to parse value. Received: A.b ="),
        (
            "A:\n  b = 3\n c = 4",
            "a.gin:3: this is not gin: unindent does not match any outer indentation "
            "level. Received: c = 4",
        ),
    ],
    ids=["quotes", "equals", "newline", "open", "indent", "value", "unindent"],
)
def test_syntax_errors(write, text, message):
    write("a.gin", text)
    assert refusal("a.gin") == message


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("[1, 2]", [1, 2]),
        ("'quoted'", "quoted"),
        ("data/x*.gz", "data/x*.gz"),
        ("2024/01/02", "2024/01/02"),
        ("gs://a/b=c", "gs://a/b=c"),
        ("[ab]*.gz", "[ab]*.gz"),
        ("%Y/%m", "%Y/%m"),
        ("it's", "it's"),
        ("1\nA.c = 2", "1\nA.c = 2"),
        ("'{here}/x'", "sub/x"),
        ("{here}/x", "sub/x"),
    ],
)
def test_an_override_that_is_not_gin_is_kept_as_it_is(text, value):
    binding = gin_text.read_override(f"x/A.b={text}", "sub")
    assert binding.key == ("x", "A", "b")
    assert binding.value == value
    not_gin = text not in ("3", "[1, 2]", "'quoted'", "'{here}/x'")
    assert isinstance(binding.value, gin_text.Unquoted) == not_gin


@pytest.mark.parametrize(
    "text, message",
    [
        ("A.b", "expected --set Class.parameter=value."),
        ("=3", "expected --set Class.parameter=value."),
        ("A.b=", "expected --set Class.parameter=value."),
        ("A..b=3", "expected --set Class.parameter=value."),
        ("include 'a'=3", "expected --set Class.parameter=value."),
        ("A.b='x", "the value is not gin: 'x"),
        ("A.b=@x/", "the value is not gin: @x/"),
    ],
)
def test_overrides_that_are_not_bindings(text, message):
    with pytest.raises(UserError) as caught:
        gin_text.read_override(text, "")
    assert str(caught.value) == f"--set {text}: {message}"
