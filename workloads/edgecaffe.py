"""The ten networks of EdgeCaffe and Masa (Cox et al., 2020 and 2021), as Caffe builds them.

Written from the published architectures; shapes, weights, buffers and the sizes of the convolutional part
(``conv_layers``, the key ``num-conv-layers`` of EdgeCaffe) agree with all 466 rows of the measured data set.
``load_copies`` is 3 for models stored in Caffe's old V1 format (parse, upgrade, merge), else 1.
"""

from __future__ import annotations

from .alexnet import caffenet_features
from .builder import GraphBuilder, Tensor
from .googlenet import googlenet_features
from .network import Network
from .vgg import vgg_layers

V1_COPIES = 3


def _image(name: str, size: int, batch: int, blob: str = "input") -> Tensor:
    return GraphBuilder(name, caffe=True).input(blob, (batch, 3, size, size))


def _levi_hassner(name: str, classes: int, input_size: int, batch: int) -> Network:
    """Levi and Hassner's network for age and gender: three convolutions, two hidden layers."""
    x = _image(name, input_size, batch)
    x = x.conv("conv1", 96, 7, stride=4).relu("relu1").pool("pool1", 3, stride=2).lrn("norm1")
    x = x.conv("conv2", 256, 5, pad=2).relu("relu2").pool("pool2", 3, stride=2).lrn("norm2")
    x = x.conv("conv3", 384, 3, pad=1).relu("relu3").pool("pool5", 3, stride=2)
    x = x.fc("fc6", 512).relu("relu6").dropout("drop6")
    x = x.fc("fc7", 512).relu("relu7").dropout("drop7")
    return x.fc("fc8", classes).softmax("prob").graph.build(load_copies=V1_COPIES)


def age_net(input_size: int = 227, batch: int = 1) -> Network:
    """AgeNet: eight age groups."""
    return _levi_hassner("AgeNet", 8, input_size, batch)


def gender_net(input_size: int = 227, batch: int = 10) -> Network:
    """GenderNet: two classes."""
    return _levi_hassner("GenderNet", 2, input_size, batch)


def face_net(input_size: int = 227, batch: int = 1) -> Network:
    """FaceNet: a face detector, CaffeNet made fully convolutional, so that any input from 227 px up works.

    EdgeCaffe enlarges the image five times (``use-scales``): 1340, 1275 and 2520 px for its three test
    images.
    """
    x = caffenet_features(_image("FaceNet", input_size, batch))
    convolutional = len(x.graph.build().layers)
    x = x.conv("fc6-conv", 4096, 6).relu("relu6").dropout("drop6")
    x = x.conv("fc7-conv", 4096, 1).relu("relu7").dropout("drop7")
    return x.conv("fc8-conv", 2, 1).softmax("prob").graph.build(conv_layers=convolutional)


def sos(input_size: int = 227, batch: int = 1) -> Network:
    """SoS, salient object subitizing on CaffeNet: 0, 1, 2, 3 or more objects; no dropout layers."""
    x = caffenet_features(_image("SoS", input_size, batch))
    x = x.fc("fc6", 4096).relu("relu6").fc("fc7", 4096).relu("relu7")
    return x.fc("fc8_sbt", 5).softmax("prob").graph.build(load_copies=V1_COPIES)


def sos_googlenet(input_size: int = 224, batch: int = 10) -> Network:
    """SoS_GoogleNet, subitizing on GoogLeNet: 143 layers and the nine splits that Caffe inserts.

    ``conv_layers`` is 10 (EdgeCaffe's key): the layers up to conv2/norm2, before pool2 and the first branch.
    """
    x = googlenet_features(_image("SoS_GoogleNet", input_size, batch, "data"))
    return x.fc("loss3/classifier-sos", 5).softmax("loss3/loss3").graph.build(conv_layers=10)


def emotion_net(input_size: int = 224, batch: int = 1) -> Network:
    """EmotionNet: seven emotions on VGG_S of Chatfield et al. (2014)."""
    x = _image("EmotionNet", input_size, batch)
    x = x.conv("conv1", 96, 7, stride=2).relu("relu1").lrn("norm1").pool("pool1", 3, stride=3)
    x = x.conv("conv2", 256, 5).relu("relu2").pool("pool2", 2, stride=2)
    for number in (3, 4, 5):
        x = x.conv(f"conv{number}", 512, 3, pad=1).relu(f"relu{number}")
    x = x.pool("pool5", 3, stride=3)
    x = x.fc("fc6", 4096).relu("relu6").dropout("drop6")
    x = x.fc("fc7", 4096).relu("relu7").dropout("drop7")
    return x.fc("fc8_cat_e", 7).softmax("prob").graph.build()


def _caffenet_classifier(name: str, input_size: int, batch: int) -> Tensor:
    x = caffenet_features(_image(name, input_size, batch))
    x = x.fc("fc6", 4096).relu("relu6").dropout("drop6")
    return x.fc("fc7", 4096).relu("relu7").dropout("drop7")


def mem_net(input_size: int = 227, batch: int = 10) -> Network:
    """MemNet: the memorability of an image, one number, so no softmax."""
    x = _caffenet_classifier("MemNet", input_size, batch)
    return x.fc("fc8-euclidean", 1).graph.build(load_copies=V1_COPIES)


def scene_net(input_size: int = 227, batch: int = 10) -> Network:
    """SceneNet: the 205 places of Places205."""
    x = _caffenet_classifier("SceneNet", input_size, batch)
    return x.fc("fc8", 205).softmax("prob").graph.build(load_copies=V1_COPIES)


def object_net(input_size: int = 224, batch: int = 10) -> Network:
    """ObjectNet: VGG-19, 1000 classes.

    ``conv_layers`` is 36 (EdgeCaffe's key), so relu5_4 and pool5 belong to the fully-connected part.
    """
    x = vgg_layers(_image("ObjectNet", input_size, batch), (2, 2, 4, 4, 4))
    return x.graph.build(conv_layers=36)


def tiny_yolo(input_size: int = 416, batch: int = 1) -> Network:
    """TinyYolo: tiny YOLOv2 for COCO, five boxes of 80 classes, a score and four sides: 425 channels.

    Caffe's pool6 (2x2, stride 1) has no padding, so 416 px end in 12 x 12 cells where Darknet keeps 13 x 13.
    Normalisation and scale do not work in place here. Which format the model was stored in is not known;
    ``load_copies`` is taken as 1.
    """
    x = _image("TinyYolo", input_size, batch, "data")
    for number, channels in enumerate((16, 32, 64, 128, 256, 512, 1024, 1024), start=1):
        x = x.conv(f"conv{number}", channels, 3, pad=1, bias=False)
        x = x.batch_norm(f"conv{number}_bn", in_place=False).scale(f"conv{number}_scale", in_place=False)
        x = x.relu(f"relu{number}")
        if number <= 6:
            x = x.pool(f"pool{number}", 2, stride=2 if number < 6 else 1)
    return x.conv("conv9", 425, 1).graph.build()
