r"""ResNet-50 on ImageNet: the recipe of 90 epochs that every paper compares with, and a modern one.

Claim: the 90-epoch recipe reaches 76.4 % (23.60 +- 0.12 % error, Goyal et al. 2017, table 2a, mean of five runs), from
batches of 256 and, with the rate scaled alike, up to 8,192. The modern one follows procedure A3 of Wightman et al.
(2021), 78.1 %: 100 epochs of LAMB on pictures of 160 pixels, mixup, CutMix, RandAugment. Here its binary cross-entropy
is a softmax, the test is at 160 pixels where the paper's is at 224, and averages of the parameters are tested.

    python experiments/resnet50_imagenet.py --data folder:path/to/imagenet        # one host, all its devices
    python experiments/resnet50_imagenet.py modern --data tfds:imagenet2012 --data-dir path/to/tfds \
        --test-split validation
    srun --nodes 4 --ntasks-per-node 1 python experiments/resnet50_imagenet.py --data folder:path/to/imagenet \
        --batch-size 1024 --optimizer.learning-rate 0.4 --restartable --run-dir path/to/shared/run

The folder has ImageNet's layout, train/CLASS/*.JPEG and val/CLASS/*.JPEG. It is tried here on a stand-in of a few
pictures only.

Expected: published, not run here: 76.4 % and 78.1 %.

Reference: He et al. (2016), "Deep Residual Learning for Image Recognition"; Goyal et al. (2017), "Accurate, Large
Minibatch SGD: Training ImageNet in 1 Hour"; Wightman, Touvron and Jegou (2021), "ResNet strikes back".
"""

from pathlib import Path

from cnnjax import Augmentation, Experiment, Loading, Net, Optimizer, PictureData, Saving, Schedule, Training
from cnnjax.cli import experiment_main

BASELINE = Experiment(
    net=Net("resnet50"),
    pictures=PictureData(
        "folder:imagenet", image_size=224, resize_by="cover", augmentation=Augmentation(random_crop=True, flip=True)
    ),
    training=Training(
        epochs=90,
        batch_size=256,
        optimizer=Optimizer(name="nesterov", learning_rate=0.1, weight_decay=1e-4),
        # The first 5 of 90 epochs rise; a half-cosine follows, in place of the tenths at 30, 60 and 80.
        schedule=Schedule(name="cosine", warmup=5 / 90),
        loading=Loading(threads=16, unreadable="skip"),
        saving=Saving(every=1000),
        log_every=100,
    ),
)

# Table 2, column A3: batch 2,048, rate 8e-3, decay 0.02, warmup 5 of 100 epochs, mixup 0.1, CutMix 1, RandAugment.
MODERN = Experiment(
    net=Net("resnet50"),
    pictures=PictureData(
        "folder:imagenet",
        image_size=160,
        resize_by="cover",
        augmentation=Augmentation(random_crop=True, flip=True, policy="rand_augment", mixup=0.1, cutmix=1.0),
    ),
    training=Training(
        epochs=100,
        batch_size=2048,
        optimizer=Optimizer(name="lamb", learning_rate=8e-3, weight_decay=0.02),
        schedule=Schedule(name="cosine", warmup=0.05),
        average=0.9999,
        loading=Loading(threads=16, unreadable="skip"),
        saving=Saving(every=500),
        log_every=50,
    ),
)

if __name__ == "__main__":
    experiment_main(BASELINE, Path(__file__).parent / "results" / "resnet50_imagenet.json", modern=MODERN)
