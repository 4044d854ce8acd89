"""The errors every room shares: one sentence each, no traceback shown to people.

A message says what happened, with the numbers, and what to do. Which exit code an error gets is the
command line's business (`zaya_cli/failures.py`); the class only says what kind of failure it is.
"""


class ZayaError(Exception):
    """Base of all errors that a person can do something about."""


class UsageError(ZayaError):
    """A parameter, a message or a file that a person gave is not usable."""


class NoLocksError(UsageError):
    """A file system has no locks, so that two processes cannot be kept apart there."""


class ModelNotFoundError(ZayaError):
    """The model folder, or a file it must have, does not exist or is not reachable offline."""


class DeviceError(ZayaError):
    """The device is missing, or cannot do what was asked of it."""


class MemoryFitError(ZayaError):
    """The model, or its key/value cache, does not fit into memory."""


class DiskSpaceError(ZayaError):
    """A file, or what is to be downloaded, does not fit on the disk."""


class CheckpointError(ZayaError):
    """A model folder is damaged: a header, an offset, a name, a shape, a tokenizer or a template."""


class ConfigError(CheckpointError):
    """`config.json` describes something that this program does not compute."""


class PromptTooLongError(ZayaError):
    """The prompt leaves no room in the model's context."""


class GenerationError(ZayaError):
    """The model came to no answer: what it wrote is empty or repeats itself, or its computation failed."""


class NetworkError(ZayaError):
    """A download failed, or access to it was refused."""
