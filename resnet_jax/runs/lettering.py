"""Names from outside as text in a picture: in fonts that have their characters, and no wider than their place."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from resnet_jax.errors import printable

STANDARD = "DejaVu Sans"
"""The font that comes with Matplotlib; it has no Chinese, Japanese or Korean."""
ELLIPSIS = "\u2026"


class Lettering:
    """Fonts for some names: Matplotlib's own, and installed ones for the characters that it lacks.

    Args:
        names: that are to be drawn.
    """

    def __init__(self, names: Iterable[str]):
        characters = set("".join(map(printable, names)))
        self.families = [STANDARD]
        """Names of fonts, in the order in which Matplotlib looks for a character."""
        self._drawn = _characters(font_manager.findfont(STANDARD))
        missing = characters - self._drawn
        while missing and (best := _best_font(missing)):
            self.families.append(best)
            self._drawn = self._drawn | _characters(font_manager.findfont(best))
            missing -= self._drawn

    def draws(self, name: str) -> bool:
        """Tell whether there is a picture of each character of a name; otherwise boxes would be drawn."""
        return self._drawn.issuperset(printable(name))

    def width(self, text: str, size: float) -> float:
        """Return the width of a text of `size` points, in inches."""
        font = FontProperties(family=self.families, size=size)
        return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0] / 72

    def fit(self, name: str, inches: float, size: float) -> str:
        """Return a name that can be drawn, without its middle if it is wider than `inches`."""
        text = printable(name)
        if self.width(text, size) <= inches:
            return text

        def without_middle(kept: int) -> str:
            return text[: kept - kept // 2] + ELLIPSIS + text[len(text) - kept // 2 :]

        kept = range(1, len(text))
        number = bisect_right(kept, inches, key=lambda count: self.width(without_middle(count), size))
        return without_middle(number)

    def labels(self, names: Sequence[str], inches: float, size: float) -> list[str]:
        """Return a label for each class: its name; or "#" and its number, from 1, where the name can't be drawn.

        Names that look the same without their middle are numbered as well.
        """
        fitted = [self.fit(name, inches, size) if self.draws(name) else "" for name in names]
        return [label if label and fitted.count(label) == 1 else f"#{number}" for number, label in enumerate(fitted, 1)]


def _best_font(missing: set[str]) -> str | None:
    """Return the installed font with the most of these characters, None if there is none with any."""
    fonts = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist if "Last Resort" not in entry.name}
    for name in sorted(fonts, key=lambda name: (-len(missing & _characters(fonts[name])), name)):
        if not missing & _characters(fonts[name]):
            return None
        if missing & _characters(font_manager.findfont(name)):  # of the weight that is used
            return name
    return None


@cache
def _characters(path: str) -> frozenset[str]:
    """Return the characters of which a font file has scalable pictures."""
    try:
        font = font_manager.get_font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except Exception:  # a damaged file among the installed fonts
        return frozenset()
