"""Every error this library raises on bad input, its warnings, and nothing else.

All errors are `ValueError`s, so that a caller who knows nothing of this module still catches them;
the service maps each class to one gRPC status in one place (`server/rpc/status.py`).
"""


class HvaeCodecError(ValueError):
    """Base of the library's errors: the input, not the program, is at fault."""


class ImageError(HvaeCodecError):
    """An image cannot be taken: not an image, wrong dtype or shape."""


class ImageTooLargeError(ImageError):
    """An image has more pixels, or a longer side, than the limits in
    `hvae_codec.codec.images.limits`.
    """


class AlphaError(ImageError):
    """An image has an alpha channel, which this lossy codec would have to drop."""


class InputWarning(UserWarning):
    """Base of warnings of an input of which a part was not taken."""


class SkippedFilesWarning(InputWarning):
    """A folder holds images of kinds that are not read, or links that lead nowhere."""


class ColourWarning(InputWarning):
    """What an image states of its colours cannot be used: its samples are taken as sRGB."""


class UnknownModelError(HvaeCodecError):
    """No shipped or given model has this name."""


class UnknownQualityError(HvaeCodecError):
    """The model exists but has no quality level of this quality, or no such layer."""


class BitstreamError(HvaeCodecError):
    """Encoded bytes cannot be decoded."""


class NotAnHvaeFileError(BitstreamError):
    """The bytes do not begin with the magic number of the `.hvae` format."""


class UnsupportedVersionError(BitstreamError):
    """The bytes are of a format version, or use a feature, that this release does not know."""


class WrongModelError(BitstreamError):
    """The bytes were written with another model than the one asked to read them."""


class CorruptError(BitstreamError):
    """The bytes were changed after they were written: a check or a length does not hold."""


class TruncatedError(CorruptError):
    """The bytes end too early."""


class ArchiveError(HvaeCodecError):
    """An archive cannot take this: a name given twice or too long, or another process writes it."""


class RateError(HvaeCodecError):
    """No file has the size or quality asked for; `nearest` is the nearest value that one has."""

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


class CheckpointError(HvaeCodecError):
    """A checkpoint's files are missing, damaged or disagree with each other."""


class SweepError(HvaeCodecError):
    """A sweep cannot be made as asked, or its folder is missing, damaged or another sweep's."""


class EvaluationError(HvaeCodecError):
    """A model cannot be evaluated or reported as asked: no labels, no classifier, no rows."""


class ExecutorError(HvaeCodecError):
    """A worker of a sweep, an evaluation or a packing was lost, or its cluster gave up."""


class DeviceError(HvaeCodecError):
    """PyTorch has no such device here, or it computes wrong sums of integers."""


class MissingDependencyError(HvaeCodecError):
    """A package that this feature needs is not installed; the message names the extra."""


class DatasetError(HvaeCodecError):
    """A data set is unknown or not where it was looked for."""


class SpecError(HvaeCodecError):
    """A model specification or a recipe contradicts itself."""


class TensorError(HvaeCodecError):
    """A tensor or number handed to an op has the wrong dtype, shape, device or value."""


class ExtensionMissingError(HvaeCodecError):
    """The compiled extension was asked for and is not there."""


class DivergenceError(HvaeCodecError):
    """Training met a loss, rate or gradient that is not finite."""
