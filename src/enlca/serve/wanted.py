"""What a request asks for, parsed from its query; no parameter is ever a path."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from enlca.inference.target_size import Size, default_scale
from enlca.serve.limits import Refused

# Format -> media type. The first is the default.
FORMATS = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "tif": "image/tiff",
    "avif": "image/avif",
}
QUALITY = 95
# Longest side that a client may name, in pixels.
LONGEST = 1 << 20
PARAMETERS = ("model", "scale", "width", "height", "format", "quality")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One request: the name of a model, the size of the result and its format."""

    model: str
    size: Size
    format: str = "png"
    quality: int = QUALITY


def parse(items: Iterable[tuple[str, str]], models: Mapping[str, Sequence[int]]) -> Wanted:
    """Check the parameters of a query.

    Args:
        items: names and values in order.
        models: the names that are served with their scales; the first is the default.

    Raises:
        Refused: 422; a parameter that is unknown, given twice or out of range, or sizes that contradict.
    """
    query: dict[str, str] = {}
    for name, value in items:
        if name not in PARAMETERS:
            raise Refused(422, f"unknown parameter {_shown(name)}; known: {', '.join(PARAMETERS)}")
        if name in query:
            raise Refused(422, f"{name} is given twice")
        query[name] = value
    model = query.get("model", next(iter(models)))
    if model not in models:
        raise Refused(422, f"unknown model {_shown(model)}; served: {', '.join(models)}")
    format = query.get("format", next(iter(FORMATS)))
    if format not in FORMATS:
        raise Refused(422, f"cannot write {_shown(format)}; choose from {', '.join(FORMATS)}")
    quality = _whole(query, "quality", 100) or QUALITY
    return Wanted(model=model, size=_size(query, models[model]), format=format, quality=quality)


def _size(query: dict[str, str], scales: Sequence[int]) -> Size:
    width, height = (_whole(query, name, LONGEST) for name in ("width", "height"))
    if "scale" not in query:
        return Size(width=width, height=height) if width or height else Size(scale=default_scale(scales))
    if width or height:
        raise Refused(422, "scale and width or height contradict each other; give one of them")
    text, largest = query["scale"], max(scales)
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,6})?", text) or not 0 < Fraction(text) <= largest:
        raise Refused(422, f"scale must be above 0 and at most {largest}, like 3.5; got {_shown(text)}")
    return Size(scale=Fraction(text))


def _whole(query: dict[str, str], name: str, largest: int) -> int | None:
    """Return a parameter as a number from 1 to `largest`; None if it is absent."""
    if (text := query.get(name)) is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise Refused(422, f"{name} must be a whole number from 1 to {largest}; got {_shown(text)}")
    return int(text)


def _shown(text: str) -> str:
    """Return a client's text, short and printable."""
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")
