"""What the operating system refuses, as a sentence that blames the right thing, and its exit code.

One table by errno: whatever was being done, the name in the error says to what, and the system says why.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

from zaya_cli.terminal.visible import one_line
from zaya_core.errors import GenerationError, ZayaError
from zaya_core.files.write_errors import NO_ROOM
from zaya_core.redaction import redacted

_MEMORY = "Out of memory: close other programs, use a shorter context (--ctx) or fewer prompts at once."
_THREADS = "The system starts no more threads for this program: close other programs, or raise the limit (ulimit -u)."
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to map segment")
_TOO_MANY_FILES = "too many open files"
_NETWORK = (ConnectionError, TimeoutError, socket.gaierror)


def _numbers(*names: str) -> frozenset[int]:
    """Of those that this system has."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_NO_MEMORY = _numbers("ENOMEM")
_NO_FILES = _numbers("EMFILE", "ENFILE")
_BROKEN_DISK = _numbers("EIO", "ESTALE", "EUCLEAN", "EBADMSG")
_UNREACHABLE = _numbers("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "EADDRNOTAVAIL")
_ADVICE = {
    errno.EACCES: "change its permissions, or give another",
    errno.EPERM: "change its permissions, or give another",
    errno.EROFS: "give a place that can be written",
    errno.ENOTDIR: "a part of the path is a file: give another",
    errno.EISDIR: "give a file",
    errno.ELOOP: "its links lead in a circle: give another",
    errno.ENAMETOOLONG: "give a shorter name",
}


def exit_code_of_system(error: BaseException) -> int | None:
    """A key of `failures.EXIT_CODES`; None for what is no refusal of the system."""
    if _is_out_of_memory(error) or _is_out_of_threads(error) or _is_out_of_files(error) or _is_disk_full(error):
        return 4
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno == errno.ENOENT:
        return 3
    if _is_network(error):
        return 7
    return 1 if error.errno in _BROKEN_DISK or isinstance(error, BrokenPipeError) else 2


def system_sentence(error: BaseException) -> str | None:
    """What was refused, why, and what to do; None where `exit_code_of_system` is."""
    if _is_out_of_memory(error):
        return _MEMORY
    if _is_out_of_threads(error):
        return _THREADS
    if _is_out_of_files(error):
        return "Too many files are open: close other programs, or raise the limit (ulimit -n)."
    if not isinstance(error, OSError) or error.errno is None:
        return None
    name, why = _name_of(error), error.strerror or os.strerror(error.errno)
    if error.errno == errno.ENOENT:
        return _missing(error, name)
    if _is_network(error):
        return f"The network cannot be reached ({why}): check the connection and try again."
    if _is_disk_full(error):
        return f"{name} cannot be written ({why}): free some space, or write elsewhere."
    if error.errno in _BROKEN_DISK:
        return f"{name} cannot be read or written ({why}): look after the disk that it lies on."
    return f"{name} cannot be used ({why}): {_ADVICE.get(error.errno, 'see to it, or give another')}."


def _missing(error: OSError, name: str) -> str:
    """Which part of a path there is not: its end, a folder on the way, or what a link leads to."""
    if error.filename is None:
        return f"{error.strerror}: check the path."
    path = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    if os.path.islink(path):
        return f"{name} is a link to what does not exist: correct it, or give another."
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        return f"{name} cannot be used: there is no folder {one_line(redacted(parent))}. Make it, or give another."
    return f"{name} does not exist; another program may have removed it meanwhile: check the path."


def _name_of(error: OSError) -> str:
    if error.filename is None:
        return "Standard output, or a file," if _is_disk_full(error) else "A file"
    return one_line(redacted(os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)))


def _is_disk_full(error: BaseException) -> bool:
    """Whether a disk, a quota or a limit of the size of files has no room left."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def _is_network(error: OSError) -> bool:
    return (isinstance(error, _NETWORK) and not isinstance(error, BrokenPipeError)) or error.errno in _UNREACHABLE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was raised from, each once."""
    seen: set[int] = set()
    next_one: BaseException | None = error
    while next_one is not None and id(next_one) not in seen:
        seen.add(id(next_one))
        yield next_one
        next_one = next_one.__cause__


def _is_out_of_memory(error: BaseException) -> bool:
    """Libraries report it as errors of several kinds: torch for each device, the loader of a library, safetensors."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NO_MEMORY):
        return True
    return _says(error, _OUT_OF_MEMORY)


def _is_out_of_threads(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def _is_out_of_files(error: BaseException) -> bool:
    return any(isinstance(one, OSError) and one.errno in _NO_FILES for one in _causes(error)) or _says(
        error, (_TOO_MANY_FILES,)
    )


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Not in what a person has given: the sentences of this program's own errors of usage are left out."""
    is_ours = isinstance(error, ZayaError) and not isinstance(error, GenerationError)
    return not is_ours and any(word in str(error).lower() for word in words)
