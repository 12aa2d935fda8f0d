"""What an argument names to answer requests: a served model, a folder, the record.

Imports no TensorFlow: `serving.compare` refuses wrong arguments at once.
"""

import dataclasses
import re

from serving.command import UserError

FORMS = (
    "grpc://HOST:PORT/MODEL[/versions/N or /labels/L], a SavedModel's folder, logged"
)

_URL = re.compile(
    r"grpc://(?P<server>[^/]+)/(?P<model>[^/]+)"
    r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/]+))?"
)


@dataclasses.dataclass(frozen=True)
class ServedName:
    """A model of a server, in its newest version or the one that is named.

    Args:
        server: HOST:PORT.
        version: a certain version; None for the newest.
        label: a version's label, instead of `version`.
    """

    server: str
    model: str
    version: int | None = None
    label: str | None = None


def parse_answerer(text: str) -> ServedName | str:
    """What `text`, one of `FORMS`, names; anything but a URL stays as it is.

    Raises:
        UserError: it is a URL of another form.
    """
    if not text.startswith("grpc://"):
        return text
    match = _URL.fullmatch(text)
    if match is None:
        raise UserError(f"Expected {FORMS}. Received: {text!r}")
    version = match["version"]
    return ServedName(
        match["server"], match["model"], version and int(version), match["label"]
    )
