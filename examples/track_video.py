"""Track the objects of a video from a mask of its first frame, and draw them. This example shows how to use `Tracker`.

    python examples/track_video.py cyclist.mp4 first-frame.png tracked.mp4

The mask is a PNG of the video's size: 0 is background, and each object has its own number. Draw it with a paint program
that has palettes, or export it from an annotation tool. You need no database.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from fiftyone_colortrack import Tracker, TrackerConfig
from fiftyone_colortrack.pictures import caption, draw_masks
from fiftyone_colortrack.video import VideoFile, VideoWriter


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("video", help="a video file")
    parser.add_argument("mask", help="a PNG with the object numbers of the first frame")
    parser.add_argument("out", help="the video to write")
    parser.add_argument("--model", default="fast", help="a name that `colortrack models` lists")
    parser.add_argument("--input-size", type=int, default=480, help="short side that frames are scaled to")
    args = parser.parse_args()

    video = VideoFile(args.video)  # frames are uint8 RGB [H, W, 3], decoded when you read them
    first_mask = np.array(Image.open(args.mask))  # [H, W], an object's number in each pixel

    # The network turns each frame into a grid of embeddings, one for every 8 x 8 pixels. Each cell of the
    # next frame looks for the most similar cells, within a radius, in the first frame and in the last 7. It
    # copies their labels, weighted by similarity. Finally, masks follow the edges between colors.
    tracker = Tracker(
        video,
        first_mask,  # or a list of `Seed(frame, mask)`, if you labeled several frames
        model=args.model,
        config=TrackerConfig(input_size=args.input_size),
    )

    with VideoWriter(args.out, video.info.frame_rate) as writer:
        # The tracker yields one frame at a time, so memory does not grow with the video's length.
        pictures = video.read(range(len(video)))
        for picture, tracked in zip(pictures, tracker, strict=False):
            ids = np.asarray(tracked.labels)  # [H, W], like the first mask
            # Confidence falls where an object is occluded or leaves: a good frame to label next.
            confidence = tracked.lowest_confidence or 0.0
            text = f"frame {tracked.frame + 1}, confidence {confidence:.0%}"
            writer.write(caption(draw_masks(picture, ids), text))

    objects = len(np.unique(first_mask[first_mask > 0]))
    print(f"{args.out}: {len(video)} frames, {objects} tracked objects")


if __name__ == "__main__":
    main()
