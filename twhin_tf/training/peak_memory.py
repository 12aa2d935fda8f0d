"""How much memory this process has had."""

import pathlib
import resource


def peak_megabytes() -> float:
    """The most memory that this process has had so far, in millions of bytes.

    `getrusage` is the fallback only: on Linux its figure starts at the size of the
    process that started this one.
    """
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
