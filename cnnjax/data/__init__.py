"""The data room: `opening` a source, `sources` by index, `decode` (pictures), `pipeline` (batches), all on the host."""

from cnnjax.data.crop import RandomCrop
from cnnjax.data.decode import decode_image, fit_image
from cnnjax.data.opening import open_source, shared_examples, splits
from cnnjax.data.pipeline import eval_batches, train_batches
from cnnjax.data.sources import ArraySource, Info, Source, read_example

__all__ = [
    "ArraySource",
    "Info",
    "RandomCrop",
    "Source",
    "decode_image",
    "eval_batches",
    "fit_image",
    "open_source",
    "read_example",
    "shared_examples",
    "splits",
    "train_batches",
]
