"""Says which file and record TensorFlow could not read."""

import contextlib
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.data.record_batches import Records
from recap_tf.data.record_checks import first_fault
from recap_tf.data.schema import read_schema

_OUR_CHECK = re.compile(r"(?:ValueError: |assertion failed: )(.+)")
# tf.debugging.Assert puts brackets around each thing that it was given to say.
_BRACKETED = re.compile(r"^\[(.+?)\](?= |$)")


@contextlib.contextmanager
def explained(data: Sequence[Records], tasks: Sequence[str]) -> Iterator[None]:
    """Turns errors of reading `data` into one line that names the place.

    TensorFlow's errors know the feature, at best, but neither file nor record; on an
    error the files are read again, up to the fault.

    Raises:
        UserError: in place of the `tf.errors.OpError` that a fault in the data raised.
    """
    try:
        yield
    # TensorFlow quotes a record that is no tf.Example in its error, as if it were text.
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        for records in data:
            schema = read_schema(records.schema)
            names = [*records.names(), *records.label_features(), *tasks]
            if fault := first_fault(records.paths(), schema, names, labels=tasks):
                raise UserError(fault) from error
        if complaint := _OUR_CHECK.search(str(error)):
            raise UserError(_BRACKETED.sub(r"\1", complaint[1])) from error
        raise
