"""The data room: `sources` by index, `pictures`, `batches`, all on the host; `augment` on the device."""

from cnnjax.data.batches.pipeline import eval_batches, train_batches
from cnnjax.data.pictures.decode import decode_image
from cnnjax.data.pictures.place import SettingError, fit_image, place
from cnnjax.data.pictures.random_crop import RandomCrop
from cnnjax.data.pictures.read import Read, ReadPictures, decode_example, pad
from cnnjax.data.sources.opening import open_source, shared_examples, splits
from cnnjax.data.sources.source import ArraySource, Info, Source, read_example

__all__ = [
    "ArraySource",
    "Info",
    "RandomCrop",
    "Read",
    "ReadPictures",
    "SettingError",
    "Source",
    "decode_example",
    "decode_image",
    "eval_batches",
    "fit_image",
    "open_source",
    "pad",
    "place",
    "read_example",
    "shared_examples",
    "splits",
    "train_batches",
]
