"""Networks that torchvision does not have, written in torch by their papers, for comparisons."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, relu
from torchvision.models.resnet import BasicBlock, ResNet

WIDTHS = (64, 128, 256, 512)


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def draw_convolutions(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class HalvingShortcut(nn.Module):
    """The mean of 2x2 pixels, fewer at the edge of an odd side; a 1x1 convolution; a normalization."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.add_module("1", nn.Conv2d(inputs, outputs, 1, bias=False))
        self.add_module("2", nn.BatchNorm2d(outputs))

    def forward(self, maps):
        means = avg_pool2d(maps, 2, 2, ceil_mode=True, count_include_pad=False)
        return self.get_submodule("2")(self.get_submodule("1")(means))


class BlockD(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = conv3(inputs, outputs, 1 if inputs == outputs else 2)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity() if inputs == outputs else HalvingShortcut(inputs, outputs)

    def forward(self, maps):
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(maps)))))
        return relu(residual + self.downsample(maps))


class ResNet18D(nn.Module):
    """He et al. 2018, arXiv:1812.01187, figure 2 (c) and (d)."""

    def __init__(self, num_classes: int):
        super().__init__()
        first = conv3(3, 32, 2), nn.BatchNorm2d(32), nn.ReLU()
        self.conv1 = nn.Sequential(*first, conv3(32, 32), nn.BatchNorm2d(32), nn.ReLU(), conv3(32, 64))
        self.bn1 = nn.BatchNorm2d(64)
        for number, (inputs, outputs) in enumerate(zip((64, *WIDTHS), WIDTHS, strict=False), 1):
            self.add_module(f"layer{number}", nn.Sequential(BlockD(inputs, outputs), BlockD(outputs, outputs)))
        self.fc = nn.Linear(512, num_classes)
        draw_convolutions(self)

    def forward(self, images):
        maps = max_pool2d(relu(self.bn1(self.conv1(images))), 3, 2, 1)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(maps.mean((2, 3)))


class PreActResNet18(nn.Module):
    """He et al. 2016, arXiv:1603.05027, figure 4 (e), as one chain of "activate, then split"."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number, width in enumerate(WIDTHS, 1):
            self.add_module(f"layer{number}", nn.ModuleList(self.unit(number, index, width) for index in (0, 1)))
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512, num_classes)
        draw_convolutions(self)

    @staticmethod
    def unit(number: int, index: int, width: int) -> nn.ModuleDict:
        halves = number > 1 and index == 0
        inputs = width // 2 if halves else width
        layers = OrderedDict(conv1=conv3(inputs, width, 2 if halves else 1), bn2=nn.BatchNorm2d(width))
        layers["conv2"] = conv3(width, width)
        if (number, index) != (1, 0):  # the stem has activated the first one's input
            layers["bn1"] = nn.BatchNorm2d(inputs)
        if halves:
            layers["downsample"] = nn.Sequential(nn.Conv2d(inputs, width, 1, 2, bias=False))
        return nn.ModuleDict(layers)

    def forward(self, images):
        maps = max_pool2d(relu(self.bn1(self.conv1(images))), 3, 2, 1)
        for unit in (*self.layer1, *self.layer2, *self.layer3, *self.layer4):
            active = relu(unit["bn1"](maps)) if "bn1" in unit else maps
            residual = unit["conv2"](relu(unit["bn2"](unit["conv1"](active))))
            maps = residual + (unit["downsample"](active) if "downsample" in unit else maps)
        return self.fc(relu(self.bn2(maps)).mean((2, 3)))


class BlurPoolConv(nn.Module):
    """A convolution of maps that a binomial filter has blurred, from outer products in place of shifts."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, maps):
        line = maps.new_tensor([1, 2, 1])
        kernel = (torch.outer(line, line) / 16).repeat(maps.shape[1], 1, 1, 1)
        return self.conv(conv2d(maps, kernel, padding=1, groups=maps.shape[1]))


class BlurPoolResNet18(ResNet):
    """Zhang 2019, arXiv:1904.11486, as FFCV's recipe has it: torchvision's network with blurred maps before strides."""

    def __init__(self, num_classes: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes)
        for first in (self.layer2[0], self.layer3[0], self.layer4[0]):
            first.conv1, first.downsample[0] = BlurPoolConv(first.conv1), BlurPoolConv(first.downsample[0])


class PlainNet(nn.Sequential):
    """He et al. 2015, arXiv:1512.03385, figure 3, middle: a chain of convolutions, each normalized and activated."""

    def __init__(self, num_classes: int, *sizes: int):
        super().__init__(OrderedDict(conv1=nn.Conv2d(3, 64, 7, 2, 3, bias=False), bn1=nn.BatchNorm2d(64)))
        self.add_module("activation", nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)))
        inputs = 64
        for number, (size, width) in enumerate(zip(sizes, WIDTHS, strict=True), 1):
            stage = nn.Sequential()
            for _ in range(size):
                stage.append(self.pair(inputs, width))
                inputs = width
            self.add_module(f"layer{number}", stage)
        self.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.add_module("fc", nn.Linear(512, num_classes))
        draw_convolutions(self)

    @staticmethod
    def pair(inputs: int, width: int) -> nn.Sequential:
        first = OrderedDict(conv1=conv3(inputs, width, width // inputs), bn1=nn.BatchNorm2d(width), relu1=nn.ReLU())
        second = OrderedDict(conv2=conv3(width, width), bn2=nn.BatchNorm2d(width), relu2=nn.ReLU())
        return nn.Sequential(first | second)


class PlainNet18(PlainNet):
    def __init__(self, num_classes: int):
        super().__init__(num_classes, 2, 2, 2, 2)


class PlainNet34(PlainNet):
    def __init__(self, num_classes: int):
        super().__init__(num_classes, 3, 4, 6, 3)
