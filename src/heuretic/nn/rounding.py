"""Whole channels and layers of networks that are scaled by fractions."""

import math


def scaled_channels(channels: float, width: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` nearest to channels * width, not below nine tenths of it, and at least one.

    Reference: Tan & Le 2019, EfficientNet, the authors' code; from MobileNetV2's.
    """
    wanted = channels * width
    nearest = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * wanted else nearest


def rounded_up(layers: float) -> int:
    """Return the next whole number of layers; 3 * 1.1 counts as 3.3, whatever the computer's fractions make of it."""
    return math.ceil(round(layers, 9))
