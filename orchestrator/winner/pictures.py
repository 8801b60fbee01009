"""Pictures of predictions, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orchestrator.base.printed import clip
from orchestrator.training.outputs import Output
from orchestrator.training.predictions import Prediction, figures_of

Array = NDArray[np.generic]
Colour = tuple[int, int, int]

_COLUMNS = 5
_SIDE = 140  # pixels of one example's square
_MARGIN = 12
_TEXT = 44  # pixels of height for two lines of text
_CELL, _SMALLEST_CELL, _MOST_CLASSES = 44, 26, 60
_PLOT = 460  # pixels of a scatter plot's square
_AXIS = 60  # pixels of its numbers
_MOST_POINTS = 5000
_RIGHT, _WRONG, _INK, _GREY = (32, 110, 60), (190, 30, 30), (0, 0, 0), (245, 245, 245)
_POINTS = ((40, 90, 170), (200, 110, 20), (32, 110, 60), (150, 60, 150))


def png(pictures: Sequence[Image.Image]) -> bytes:
    """The pictures, one below the other."""
    width = max(each.width for each in pictures)
    whole = Image.new("RGB", (width, sum(each.height for each in pictures)), "white")
    top = 0
    for each in pictures:
        whole.paste(each, (0, top))
        top += each.height
    output = io.BytesIO()
    whole.save(output, "PNG")
    return output.getvalue()


def draw_examples(predictions: Sequence[Prediction], title: str) -> Image.Image:
    """Five examples a row, the prediction under each; wrong ones in a red frame.

    Args:
        predictions: classes or labels of images.
        title: a line above.
    """
    rows = -(-len(predictions) // _COLUMNS)
    cell_width, cell_height = _SIDE + _MARGIN, _SIDE + _TEXT + _MARGIN
    picture, draw = _canvas(
        _COLUMNS * cell_width + _MARGIN, rows * cell_height + _TEXT + _MARGIN, title
    )
    for place, each in enumerate(predictions):
        row, column = divmod(place, _COLUMNS)
        left, top = _MARGIN + column * cell_width, _TEXT + row * cell_height
        _draw_example(picture, draw, each, left, top)
    return picture


def draw_images(predictions: Sequence[Prediction], title: str) -> Image.Image:
    """The example above, the image that the model makes of it below, the true one between them.

    Args:
        predictions: of images.
        title: a line above.
    """
    first = predictions[0]
    is_own_truth = first.label is None or (
        first.image is not None
        and first.image.shape == first.label.shape
        and bool((first.image == first.label).all())
    )
    names = ["example"] * (first.image is not None)
    names += ["true"] * (not is_own_truth or (first.image is None and first.label is not None))
    names += ["predicted"]
    columns = min(len(predictions), 2 * _COLUMNS)
    blocks = -(-len(predictions) // columns)
    height = len(names) * (_SIDE + _MARGIN) + _MARGIN
    label_width = 80
    picture, draw = _canvas(
        label_width + columns * (_SIDE + _MARGIN) + _MARGIN, blocks * height + _TEXT, title
    )
    for place, each in enumerate(predictions):
        block, column = divmod(place, columns)
        shown = {"example": each.image, "true": each.label, "predicted": each.predicted}
        for row, name in enumerate(names):
            left = label_width + _MARGIN + column * (_SIDE + _MARGIN)
            top = _TEXT + block * height + row * (_SIDE + _MARGIN)
            like = None if name == "example" else each.label
            picture.paste(_thumbnail(shown[name], like), (left, top))
            if column == 0:
                _write(draw, (_MARGIN, top + _SIDE // 2), name, 14)
    return picture


def draw_confusion(output: Output, title: str) -> Image.Image | None:
    """A row each true class, a column each predicted one; counts, wrong ones in red.

    Args:
        output: classes.
        title: a line above.

    Returns:
        None: the classes are not known, or too many for a picture.
    """
    if output.true is None:
        return None
    classes = np.unique(np.concatenate([output.true, output.predicted]))
    if len(classes) > _MOST_CLASSES:
        return None
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    true, predicted = (np.searchsorted(classes, each) for each in (output.true, output.predicted))
    np.add.at(counts, (true, predicted), 1)
    cell = max(_SMALLEST_CELL, min(_CELL, 1200 // (len(classes) + 1)))
    side = (len(classes) + 1) * cell + 2 * _MARGIN
    picture, draw = _canvas(side, side + _TEXT, title)
    _write(draw, (_MARGIN, _MARGIN + 20), "rows: true, columns: predicted", 12)
    for row in range(-1, len(classes)):
        for column in range(-1, len(classes)):
            at = (_MARGIN + (column + 1) * cell, _TEXT + _MARGIN + (row + 1) * cell)
            if row >= 0 and column >= 0:
                strong = _RIGHT if row == column else _WRONG
                _draw_count(draw, at, cell, int(counts[row, column]), counts[row].sum(), strong)
            elif max(row, column) >= 0:
                middle = (at[0] + cell // 2, at[1] + cell // 2)
                _write(draw, middle, str(classes[max(row, column)]), 15 * cell // _CELL, "mm")
    return picture


def draw_labels(output: Output, title: str) -> Image.Image | None:
    """A row each label: how often it was found, missed, said wrongly, and rightly left out.

    Args:
        output: labels.
        title: a line above.

    Returns:
        None: the true labels are not known, or too many for a picture.
    """
    if output.true is None or output.true.shape[1] > _MOST_CLASSES:
        return None
    true, said = output.true.astype(bool), output.predicted.astype(bool)
    cases = {
        "found": (true & said, _RIGHT),
        "missed": (true & ~said, _WRONG),
        "said wrongly": (~true & said, _WRONG),
        "left out": (~true & ~said, _RIGHT),
    }
    wide = 100
    height = (true.shape[1] + 1) * _CELL + 2 * _MARGIN + _TEXT
    picture, draw = _canvas(5 * wide + 2 * _MARGIN, height, title)
    for column, (name, (counted, strong)) in enumerate(cases.items(), start=1):
        _write(draw, (_MARGIN + column * wide, _TEXT + _MARGIN), name, 14)
        for row, count in enumerate(counted.sum(axis=0)):
            at = (_MARGIN + column * wide, _TEXT + _MARGIN + (row + 1) * _CELL)
            _draw_count(draw, at, _CELL, int(count), len(true), strong, wide)
    for row in range(true.shape[1]):
        top = _TEXT + _MARGIN + (row + 1) * _CELL + _CELL // 2
        _write(draw, (_MARGIN, top), f"label {row}", 15, "lm")
    return picture


def draw_scatter(output: Output, title: str) -> Image.Image | None:
    """Predicted against true numbers, with the diagonal and the errors.

    Args:
        output: numbers.
        title: a line above.

    Returns:
        None: the true numbers are not known, or some are not finite.
    """
    if output.true is None:
        return None
    true, predicted = np.asarray(output.true, float), np.asarray(output.predicted, float)
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        return None
    figures = ", ".join(f"{name} {value:.4g}" for name, value in figures_of(output).items())
    subtitle = f"{figures}, of {len(true)} examples"
    size = _AXIS + _PLOT + 2 * _MARGIN
    picture, draw = _canvas(size, size + _TEXT, title)
    _write(draw, (_MARGIN, _MARGIN + 22), subtitle, 14)
    low, high = _range(true, predicted)
    left, top = _AXIS + _MARGIN, _TEXT + _MARGIN

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + _PLOT * (x - low) / (high - low),
            top + _PLOT * (high - y) / (high - low),
        )

    draw.rectangle((left, top, left + _PLOT, top + _PLOT), fill=_GREY, outline=(200, 200, 200))
    draw.line((*at(low, low), *at(high, high)), fill=(120, 120, 120), width=1)
    step = max(1, -(-true.size // _MOST_POINTS))
    points = zip(true.ravel()[::step], predicted.ravel()[::step], strict=True)
    columns = true.shape[1]
    for place, (x, y) in enumerate(points):
        column = (place * step) % columns
        colour = _POINTS[column % len(_POINTS)] if columns <= len(_POINTS) else _POINTS[0]
        across, down = at(float(x), float(y))
        draw.ellipse((across - 3, down - 3, across + 3, down + 3), outline=colour)
    for value in _ticks(low, high):
        across, down = at(value, value)
        draw.line((across, top + _PLOT, across, top + _PLOT + 4), fill=_INK)
        draw.line((left - 4, down, left, down), fill=_INK)
        _write(draw, (across, top + _PLOT + 6), f"{value:.4g}", 12, "ma")
        _write(draw, (left - 6, down), f"{value:.4g}", 12, "rm")
    _write(draw, (left + _PLOT // 2, top + _PLOT + 24), "true", 14, "ma")
    _write(draw, (left + 6, top + 6), "predicted", 14)
    return picture


def _range(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[float, float]:
    low = float(min(true.min(), predicted.min()))
    high = float(max(true.max(), predicted.max()))
    edge = 0.04 * (high - low) or abs(high) or 1.0
    return low - edge, high + edge


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, four to ten of them."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next(each for each in (1, 2, 5, 10) if power * each >= rough / 1.5))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [place * step for place in range(first, last + 1)]


def _canvas(width: int, height: int, title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (max(width, _width(title)), height), "white")
    draw = ImageDraw.Draw(picture)
    _write(draw, (_MARGIN, _MARGIN), title, 16)
    return picture, draw


def _width(title: str) -> int:
    return 2 * _MARGIN + int(ImageFont.load_default(16).getlength(title))


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    anchor: str = "la",
    colour: Colour = _INK,
) -> None:
    draw.text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _draw_count(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    cell: int,
    count: int,
    total: int,
    strong: Colour,
    width: int | None = None,
) -> None:
    """One count on a square that is the darker the more it is of the total."""
    across = width or cell
    share = count / max(1, int(total))
    light = [round(255 + (each - 255) * min(1.0, share * 4) ** 0.5) for each in strong]
    box = (*at, at[0] + across - 2, at[1] + cell - 2)
    draw.rectangle(box, fill=(light[0], light[1], light[2]) if count else _GREY)
    if count:
        middle = (at[0] + across // 2, at[1] + cell // 2)
        ink = (255, 255, 255) if share > 0.1 else _INK
        _write(draw, middle, str(count), 13 * cell // _CELL, "mm", ink)


def _draw_example(
    picture: Image.Image, draw: ImageDraw.ImageDraw, each: Prediction, left: int, top: int
) -> None:
    picture.paste(_thumbnail(each.image), (left, top))
    wrong = each.is_right is False
    colour = _WRONG if wrong else _RIGHT if each.is_right else _INK
    frame = (left - 2, top - 2, left + _SIDE + 1, top + _SIDE + 1)
    draw.rectangle(frame, outline=colour, width=4 if wrong else 1)
    _write(draw, (left, top + _SIDE + 4), clip(_caption(each), 18), 16, colour=colour)
    if wrong:
        _write(
            draw, (left, top + _SIDE + 22), clip(f"wrong: it is {each.truth}", 22), 14,
            colour=colour,
        )  # fmt: skip


def _caption(each: Prediction) -> str:
    if each.kind == "classes":
        return f"{each.predicted} ({each.probability:.0%})"
    return ", ".join(map(str, each.predicted)) or "no label"


def _thumbnail(image: Array | None, like: Array | None = None) -> Image.Image:
    """The image as a square; a grey one on a background of its lowest value as ink on paper.

    Args:
        image: (h, w) or (h, w, 3).
        like: whose range of values it has; None: its own.
    """
    assert image is not None
    pixels = np.asarray(image, np.float64)
    whole = pixels if like is None else np.asarray(like, np.float64)
    low, high = _levels(whole, pixels)
    light = 255 * np.clip((pixels - low) / (high - low or 1), 0, 1)
    if pixels.ndim == 2 and _is_on_black(whole):
        light = 255 - light
    picture = Image.fromarray(light.astype(np.uint8))
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    square = Image.new("RGB", (_SIDE, _SIDE), "white")
    resized = picture.resize(size, Image.Resampling.NEAREST).convert("RGB")
    square.paste(resized, ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return square


def _levels(whole: NDArray[np.float64], pixels: NDArray[np.float64]) -> tuple[float, float]:
    """The values that are darkest and lightest."""
    low, high = float(whole.min()), float(whole.max())
    if pixels.ndim == 2 or low < 0:
        return low, high
    return 0.0, 255.0 if high > 1 else 1.0  # a dark photograph stays dark


def _is_on_black(whole: NDArray[np.float64]) -> bool:
    if whole.ndim != 2:
        return False
    border = np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]])
    return bool(np.median(border) == whole.min())
