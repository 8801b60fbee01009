"""Pictures of predictions: a PNG of digits, each with what the model says."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from objectives.predictions import Prediction

_COLUMNS = 5
_SIDE = 140  # pixels of one digit's square
_MARGIN = 12
_TEXT = 44  # pixels of height for the two lines below a digit
_RIGHT, _WRONG = (32, 110, 60), (190, 30, 30)


def draw_predictions(predictions: Sequence[Prediction], title: str) -> bytes:
    """A PNG: five digits a row, the prediction under each; wrong ones in a red frame.

    Args:
        predictions: what to show.
        title: a line above.
    """
    rows = -(-len(predictions) // _COLUMNS)
    cell_width, cell_height = _SIDE + _MARGIN, _SIDE + _TEXT + _MARGIN
    size = (_COLUMNS * cell_width + _MARGIN, rows * cell_height + _TEXT + _MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=ImageFont.load_default(18))
    for place, each in enumerate(predictions):
        row, column = divmod(place, _COLUMNS)
        _draw_one(picture, draw, each, _MARGIN + column * cell_width, _TEXT + row * cell_height)
    output = io.BytesIO()
    picture.save(output, "PNG")
    return output.getvalue()


def _draw_one(
    picture: Image.Image, draw: ImageDraw.ImageDraw, each: Prediction, left: int, top: int
) -> None:
    pixels = each.image.astype(np.float64)
    low, high = pixels.min(), pixels.max()
    dark = 255 - 255 * (pixels - low) / (high - low or 1)
    digit = Image.fromarray(dark.astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    picture.paste(digit.convert("RGB"), (left, top))
    wrong = each.predicted != each.label
    colour = _WRONG if wrong else _RIGHT
    frame = (left - 2, top - 2, left + _SIDE + 1, top + _SIDE + 1)
    draw.rectangle(frame, outline=colour, width=4 if wrong else 1)
    line = f"{each.predicted} ({each.probability:.0%})"
    draw.text((left, top + _SIDE + 4), line, fill=colour, font=ImageFont.load_default(16))
    if wrong:
        draw.text(
            (left, top + _SIDE + 22), f"wrong: it is {each.label}", fill=colour,
            font=ImageFont.load_default(14),
        )  # fmt: skip
