"""The crop of docs/spec/crop.md, written from that page alone: one pixel at a time, with numbers of Python."""

import math
from collections.abc import Callable
from fractions import Fraction

Value = Callable[[int, int, int], int]
"""Of column, row and channel."""
Points = list[tuple[float, float]]

TEMPLATE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]


def golden_value(x: int, y: int, z: int) -> int:
    """The generated picture of a golden vector."""
    return (((x * x * (z + 3) + 7 * x * y + y * y * (5 - z)) >> 4) + 31 * (x // 16 + y // 16) * (z + 1)) % 256


def total(values: list[float]) -> float:
    found = values[0]
    for value in values[1:]:
        found = found + value
    return found


class CropReader:
    """The crop of one face; `pixel` makes one of its pixels."""

    def __init__(self, value: Value, width: int, height: int, points: Points) -> None:
        self.value, self.W, self.H = value, width, height
        targets = [(u + 8, v + 8) for u, v in TEMPLATE]
        mx, my = total([x for x, _ in points]) / 5, total([y for _, y in points]) / 5
        mu, mv = total([u for u, _ in targets]) / 5, total([v for _, v in targets]) / 5
        moved = [(x - mx, y - my, u - mu, v - mv) for (x, y), (u, v) in zip(points, targets, strict=True)]
        q = total([X * X + Y * Y for X, Y, _, _ in moved])
        a = total([X * U + Y * V for X, Y, U, V in moved]) / q
        b = total([X * V - Y * U for X, Y, U, V in moved]) / q
        c, d = mu - (a * mx - b * my), mv - (b * mx + a * my)
        s = math.sqrt(a * a + b * b)
        self.w, self.h = (self.W, self.H) if s >= 1 else (round(self.W * s), round(self.H * s))
        g, e = a / (a * a + b * b), b / (a * a + b * b)
        p, r = -(g * c + e * d), e * c - g * d
        m, n = self.w / self.W, self.h / self.H
        self.X = [math.floor(x * 2**32 + 0.5) for x in (g * m, e * m, (p + 0.5) * m - 0.5)]
        self.Y = [math.floor(y * 2**32 + 0.5) for y in (-e * n, g * n, (r + 0.5) * n - 0.5)]

    def pixel(self, j: int, i: int) -> tuple[int, int, int]:
        x, y = ((k[1] * i + k[2] + 2**21 + k[0] * j) >> 22 for k in (self.X, self.Y))
        across = [(self.reflected((x >> 10) + n, self.w), weight) for n, weight in self.weights(x % 1024)]
        down = [(self.reflected((y >> 10) + n, self.h), weight) for n, weight in self.weights(y % 1024)]
        red, green, blue = (self.byte(across, down, channel) for channel in range(3))
        return red, green, blue

    def byte(self, across: list[tuple[int, int]], down: list[tuple[int, int]], channel: int) -> int:
        found = 2**20
        for row, weight in down:
            found += weight * ((64 + sum(w * self.reduced(column, row, channel) for column, w in across)) >> 7)
        return min(max(found >> 21, 0), 255)

    @staticmethod
    def reflected(place: int, length: int) -> int:
        t = place % (2 * length)
        return min(t, 2 * length - 1 - t)

    @staticmethod
    def weights(k: int) -> list[tuple[int, int]]:
        before, two = (2**17 - 3 * k * (1024 - k) ** 2) >> 18, (2**17 - 3 * k**2 * (1024 - k)) >> 18
        at = (2**17 + 5 * k**3 - 9216 * k**2 + 2**32) >> 18
        return [(-1, before), (0, at), (1, 2**14 - before - at - two), (2, two)]

    def reduced(self, j: int, i: int, channel: int) -> int:
        if (self.w, self.h) == (self.W, self.H):
            return self.value(j, i, channel)
        across, down = self.shares(j, self.w, self.W), self.shares(i, self.h, self.H)
        weighted = sum(wy * wx * self.value(x, y, channel) for y, wy in down for x, wx in across)
        mean = Fraction(weighted, self.W * self.H)
        if all(full == 2 * small for full, small in ((self.W, self.w), (self.H, self.h))):
            return math.floor(mean + Fraction(1, 2))
        return round(mean)  # a half to the even number

    @staticmethod
    def shares(place: int, small: int, full: int) -> list[tuple[int, int]]:
        """Pixels of the picture and the parts that each has in common with the reduced pixel at `place`."""
        start, end = place * full, (place + 1) * full
        pixels = range(start // small, -(-end // small))
        return [(k, min(end, (k + 1) * small) - max(start, k * small)) for k in pixels]
