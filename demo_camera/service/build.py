"""Parts of the service as they are: this machine's sources, detector, gate and encoder."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import count

from demo_camera.best_shot import SendRule
from demo_camera.loop import CaptureLoop
from demo_camera.service.files import read_secret
from demo_camera.service.runner import Parts
from demo_camera.service.settings import CameraSettings, Settings
from demo_camera.sources import Region, Source, SourceOptions, open_source
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.selftest import selftest
from edge_stscq.device import DeviceEncoder, load_encoder
