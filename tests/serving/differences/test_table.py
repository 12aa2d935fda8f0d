"""The table in the documents is that of the tests, and is whole."""

import re

import differences

ROWS = [
    *(f"A{number}" for number in range(1, 16)),
    *(f"B{number}" for number in range(1, 36)),
    *(f"C{number}" for number in range(1, 9)),
    "shapes",
    "methods",
]


def test_the_page_is_made_of_the_tests():
    assert differences.PAGE.read_text() == differences.page(), (
        "Run python tests/differences.py"
    )


def test_every_row_has_a_test():
    assert {entry.name for entry in differences.entries()} == set(ROWS)


def test_every_test_of_a_row_is_there():
    for entry in differences.entries():
        module, test = entry.test.split(".")
        source = (differences.TESTS / f"{module}.py").read_text()
        assert re.search(rf"^def {test}\(", source, re.M)
