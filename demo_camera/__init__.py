"""From a camera, a video or a picture to frames of the stream: detect, judge, align, encode, write or send.

Everything here runs without torch. Pictures are `uint8 [H, W, 3]` in **RGB** throughout; only the calls into OpenCV
that insist on BGR convert.
"""

import cv2

# OpenCV reports on stderr what is raised here as an `EdgeError` with a next step; one of the two is enough.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
