"""TensorFlow's start-up chatter is hidden, whoever comes to import it first.

No setting turns that chatter off, and it would hide the one line that a user should
read. Importing TensorFlow at once, in silence, would do too, but takes seconds, which
`--help` should not.
"""

import contextlib
import importlib.util
import os
import sys


def hide_start_up() -> None:
    """Makes the first `import tensorflow` of this process a silent one.

    Failures still raise. Does nothing if TensorFlow is imported already.
    """
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder:
    """Finds TensorFlow as Python does, and has it loaded with nothing on stderr."""

    def __init__(self):
        self._asks_others = False

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow" or self._asks_others:
            return None
        self._asks_others = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asks_others = False
        if spec is not None:
            load = spec.loader.exec_module

            def load_silently(module):
                sys.meta_path.remove(self)
                with _silent_stderr():
                    load(module)
                    # Drivers have things to say too.
                    module.config.list_physical_devices()

            spec.loader.exec_module = load_silently
        return spec


@contextlib.contextmanager
def _silent_stderr():
    """Hides what C++ code writes to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
