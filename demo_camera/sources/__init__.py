"""Sources of pictures: cameras in the machine and in the network, videos, pictures, folders of them, standard input.

One word names a source. Pictures arrive one by one in RGB, turned upright where a file says how it was held; a reader
is chosen by what a file contains, never by its name.
"""

from demo_camera.sources.opening import open_source
from demo_camera.sources.options import Backoff, Region, SourceOptions
from demo_camera.sources.picture import Picture, Source, SourceCounters
from demo_camera.sources.stored.folders import SUFFIXES

__all__ = ["SUFFIXES", "Backoff", "Picture", "Region", "Source", "SourceCounters", "SourceOptions", "open_source"]
