"""The page as a file: one HTML document, replaced whole, and only if it is ours."""

from collections.abc import Mapping
from importlib import resources

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.report.markup import Markup, element

_GENERATOR = '<meta name="generator" content="recap_tf.evaluate">'


def publish(path: str, page: str) -> None:
    """Puts a page where it belongs, whole or not at all.

    Raises:
        UserError: something that is no report lies there.
    """
    check_ours(path)
    files.write_text(path, page)


def check_ours(path: str) -> None:
    """Raises UserError if there is a file at `path` that no report of ours wrote."""
    if not tf.io.gfile.exists(path):
        return
    with tf.io.gfile.GFile(path, "rb") as file:
        if _GENERATOR.encode() not in file.read(4096):
            raise UserError(
                f"{path} exists and is not a report of recap_tf.evaluate; give "
                "--report another folder."
            )


def html_page(title: str, head: Markup, parts: Mapping[str, Markup]) -> str:
    """Makes a whole document that needs no other file.

    Args:
        title: what the window is called.
        head: what stands above the links to the parts.
        parts: heading -> what stands below it.
    """
    style = resources.files("recap_tf.report").joinpath("page.css").read_text("utf-8")
    links = [element("a", name, href=f"#{name.lower()}") for name in parts]
    sections = [
        element("section", element("h2", name), content, id=name.lower())
        for name, content in parts.items()
    ]
    return (
        "<!doctype html>\n"
        + '<html lang="en"><head><meta charset="utf-8">'
        + _GENERATOR
        + '<meta name="viewport" content="width=device-width, initial-scale=1">'
        + element("title", title)
        + f"<style>\n{style}</style></head><body>\n"
        + "\n".join([head, element("nav", links), element("main", sections)])
        + "\n</body></html>\n"
    )
