"""Arrow columns as NumPy arrays: vectors, and keys that tell groups apart."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.arrow_kinds import BadValue, decoded
from recap_tf.core.values.canonical_text import canonical_codes
from recap_tf.core.values.numeric_values import numbers

NULL_KEY = -1


def vectors(column: pa.Array, width: int) -> np.ndarray:
    """float32 (rows, width); zeros where the vector is missing.

    Raises:
        BadValue: a vector of another width, or with a value that is not finite.
    """
    lengths = pc.list_value_length(column)
    wrong = pc.fill_null(pc.not_equal(lengths, width), False)
    wrong = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    if len(wrong):
        length = lengths[int(wrong[0])].as_py()
        raise BadValue(wrong[0], f"{length} values instead of {width}")
    there = column.is_valid().to_numpy(zero_copy_only=False)
    flat = decoded(pc.list_flatten(column))
    if pa.types.is_floating(flat.type):
        flat = flat.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    else:
        flat = numbers(flat).astype(np.float32)
    flat = flat.reshape(-1, width)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        index = np.flatnonzero(there)[np.flatnonzero(~finite)[0]]
        raise BadValue(index, "a value that is missing or not finite")
    result = np.zeros((len(column), width), np.float32)
    result[there] = flat
    return result


def keys(column: pa.Array) -> np.ndarray:
    """int64 keys: a whole number is its own, another text is hashed; -1 if missing.

    The hash is the first 8 bytes of BLAKE2b, the same on every machine.
    """
    codes, values = canonical_codes(column)
    table = np.array([_key(value) for value in values] + [NULL_KEY], np.int64)
    return table[codes]


def _key(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is not None and str(number) == text and -(2**63) <= number < 2**63:
        return number
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True
    )
