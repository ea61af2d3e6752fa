"""Floor 2: the architectures, one file per paper, and the registry that makes them by name."""

from cnnjax.models.alexnet import AlexNet, AlexNetOWT
from cnnjax.models.convnet import ConvNet
from cnnjax.models.densenet import DenseNet
from cnnjax.models.fast_rcnn import FastRCNN
from cnnjax.models.faster_rcnn import FasterRCNN, FasterRCNNPyramid
from cnnjax.models.fcn import FCN
from cnnjax.models.hed import HED
from cnnjax.models.inception import GoogLeNet
from cnnjax.models.inception_v3 import InceptionV3
from cnnjax.models.initialization import check_inputs, inference_options, initialize, smallest_image_size
from cnnjax.models.lenet import LeNet5, LeNet5Of1998
from cnnjax.models.mask_rcnn import MaskRCNN
from cnnjax.models.mobilenet import MobileNetV1
from cnnjax.models.network import Bound, Network, bind
from cnnjax.models.parts.architecture import Architecture, Stage
from cnnjax.models.parts.auxiliary import AuxiliaryLogits
from cnnjax.models.parts.detector import (
    Detecting,
    Detections,
    Detector,
    Objects,
    Part,
    PicturesWithObjects,
    PicturesWithProposals,
    Selection,
    Trainable,
)
from cnnjax.models.preact_resnet import PreactResNet
from cnnjax.models.rcnn import RCNN
from cnnjax.models.registry import (
    Model,
    builder_of,
    create,
    image_shape,
    logits_of,
    name_of,
    names,
    options_of,
    register,
)
from cnnjax.models.resnet import CifarResNet, ResNet
from cnnjax.models.resnet9 import ResNet9
from cnnjax.models.senet import SENet154
from cnnjax.models.ssd import SSD
from cnnjax.models.stacking import stack, unstack
from cnnjax.models.unet import UNet
from cnnjax.models.vgg import VGG
from cnnjax.models.yolo import YOLO, YOLOClassifier
from cnnjax.models.zfnet import ZFNet

__all__ = [
    "FCN",
    "HED",
    "RCNN",
    "SSD",
    "VGG",
    "YOLO",
    "AlexNet",
    "AlexNetOWT",
    "Architecture",
    "AuxiliaryLogits",
    "Bound",
    "CifarResNet",
    "ConvNet",
    "DenseNet",
    "Detecting",
    "Detections",
    "Detector",
    "FastRCNN",
    "FasterRCNN",
    "FasterRCNNPyramid",
    "GoogLeNet",
    "InceptionV3",
    "LeNet5",
    "LeNet5Of1998",
    "MaskRCNN",
    "MobileNetV1",
    "Model",
    "Network",
    "Objects",
    "Part",
    "PicturesWithObjects",
    "PicturesWithProposals",
    "PreactResNet",
    "ResNet",
    "ResNet9",
    "SENet154",
    "Selection",
    "Stage",
    "Trainable",
    "UNet",
    "YOLOClassifier",
    "ZFNet",
    "bind",
    "builder_of",
    "check_inputs",
    "create",
    "image_shape",
    "inference_options",
    "initialize",
    "logits_of",
    "name_of",
    "names",
    "options_of",
    "register",
    "smallest_image_size",
    "stack",
    "unstack",
]
