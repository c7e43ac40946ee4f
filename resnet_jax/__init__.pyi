from .classifier.classifier import Classifier as Classifier
from .classifier.classifier import load_classifier as load_classifier
from .classifier.files import Guess as Guess
from .classifier.files import Result as Result
from .classifier.preprocessing import Preprocessing as Preprocessing
from .classifier.pretrained import from_pretrained as from_pretrained
from .classifier.pretrained import load_torchvision as load_torchvision
from .classifier.saving import save_pretrained as save_pretrained
from .models.interface import Features as Features
from .models.layers.convolution import Conv as Conv
from .models.layers.norm import BatchNorm as BatchNorm
from .models.layers.residual import BottleneckBlock as BottleneckBlock
from .models.layers.residual import ResNetBlock as ResNetBlock
from .models.resnet import ResNet as ResNet
from .models.resnet import ResNet18 as ResNet18
from .models.resnet import ResNet34 as ResNet34
from .models.resnet import ResNet50 as ResNet50
from .models.resnet import ResNet101 as ResNet101
from .models.resnet import ResNet152 as ResNet152
from .models.resnet import ResNeXt50_32x4d as ResNeXt50_32x4d
from .models.resnet import ResNeXt101_32x8d as ResNeXt101_32x8d
from .models.resnet import ResNeXt101_64x4d as ResNeXt101_64x4d
from .models.resnet import WideResNet50_2 as WideResNet50_2
from .models.resnet import WideResNet101_2 as WideResNet101_2
from .weights.torchvision import to_torchvision as to_torchvision

__version__: str
