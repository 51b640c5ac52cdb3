"""Many messages in one array of bytes, and what stands at a place in each of them.

numpy reads the same thing from all messages at once: a place is an array with one position per
message. Nothing here raises because of a message's content. Positions only grow, so one that left
its message is found by a single comparison at the end.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from iot_pipeline.core.reading.columns import Ints, Mask

Words = npt.NDArray[np.uint64]

# Two words are read at a place, and a place may be one behind the last message.
_PAD = bytes(24)
_HIGH, _ONE = np.uint64(0x8080_8080_8080_8080), np.uint64(1)
_SEVEN_BITS, _BYTE = np.uint64(0x7F), np.uint64(0xFF)
# Each step joins neighbours: groups of 7 bits, of 14, of 28.
_SQUEEZE = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(bits))
    for low, high, bits in (
        (0x007F_007F_007F_007F, 0x7F00_7F00_7F00_7F00, 1),
        (0x0000_3FFF_0000_3FFF, 0x3FFF_0000_3FFF_0000, 2),
        (0x0000_0000_0FFF_FFFF, 0x0FFF_FFFF_0000_0000, 4),
    )
)
# Texts of one length are read at once; of more lengths than this one by one.
_MOST_LENGTHS = 8


class Joined:
    """Messages behind each other; `starts` and `ends` say where each of them is."""

    __slots__ = ("_words", "ends", "limit", "starts", "text")

    def __init__(self, values: Sequence[bytes]) -> None:
        self.text = b"".join([*values, _PAD])
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.ends: Ints = np.cumsum(lengths)
        self.starts: Ints = self.ends - lengths
        # Behind the last message: the place of whatever is no place.
        self.limit = len(self.text) - len(_PAD) + 1
        # A word at every place, whatever it is divisible by.
        self._words = np.ndarray((self.limit + 9,), "<u8", self.text, 0, (1,))

    def words(self, at: Ints) -> Words:
        """The eight bytes from each place on, the first one lowest."""
        found: Words = self._words[np.minimum(at, self.limit)]
        return found

    def doubles(self, at: Ints) -> npt.NDArray[np.float64]:
        return self.words(at).view("<f8")

    def floats(self, at: Ints) -> npt.NDArray[np.float32]:
        return self.words(at).astype("<u4").view("<f4")

    def varints(self, at: Ints) -> tuple[Words, Ints, Mask | None]:
        """Numbers of seven bits a byte, the lowest first.

        Returns:
            The numbers, the places behind them, and which are none: of more than 64 bits.
        """
        words = self.words(at)
        if not (words & np.uint64(0x80)).any():
            return words & _SEVEN_BITS, at + 1, None
        stops = ~words & _HIGH
        below = (stops & (~stops + _ONE)) - _ONE
        numbers = words & below & ~_HIGH
        for low, high, bits in _SQUEEZE:
            numbers = (numbers & low) | ((numbers & high) >> bits)
        after = at + (np.bitwise_count(below) // 8 + 1)
        is_long: Mask = stops == 0
        if not is_long.any():
            return numbers, after, None
        more = self.words(at + 8)
        ninth, tenth = more & _BYTE, (more >> np.uint64(8)) & _BYTE
        is_longer = is_long & (ninth > 0x7F)
        numbers[is_long] |= (ninth[is_long] & _SEVEN_BITS) << np.uint64(56)
        numbers[is_longer] |= (tenth[is_longer] & _ONE) << np.uint64(63)
        return numbers, np.where(is_long, at + 9 + is_longer, after), is_longer & (tenth > 1)

    def behind(self, at: Ints, sizes: Ints) -> Ints:
        """The places further on by `sizes` bytes; no place where a size is none."""
        return np.where((sizes < 0) | (sizes > self.limit), self.limit, at + sizes)

    def texts(self, at: Ints, sizes: Ints, ends: Ints) -> tuple[list[str], Mask | None]:
        """Texts of `sizes` bytes, and which are none; "" for these.

        `ends` are those of the messages: a text that would end behind its own is none. Taken from
        the messages behind it, each text of a broken chunk would be as long as the chunk.
        """
        at, sizes, is_bad = self._inside(at, sizes, ends)
        told = self._slices(at, sizes)
        try:
            return list(map(bytes.decode, told)), is_bad
        except UnicodeDecodeError:
            pass
        texts = []
        is_bad = np.zeros(len(at), np.bool_) if is_bad is None else is_bad
        for number, one in enumerate(told):
            try:
                texts.append(one.decode())
            except UnicodeDecodeError:
                texts.append("")
                is_bad[number] = True
        return texts, is_bad

    def find_no_texts(self, at: Ints, sizes: Ints, ends: Ints) -> Mask | None:
        """Which of them are no texts, asked as `texts` is; None: all are."""
        inside, known, is_bad = self._inside(at, sizes, ends)
        lengths = _lengths(known)
        if lengths is not None and all(
            self._of_length(inside[known == length], length).view(np.uint8).max(initial=0) < 0x80
            for length in lengths
            if length
        ):
            return is_bad
        return self.texts(at, sizes, ends)[1]

    def _inside(self, at: Ints, sizes: Ints, ends: Ints) -> tuple[Ints, Ints, Mask | None]:
        """The same, with nothing at all where it would end behind its message."""
        is_bad = (sizes < 0) | (sizes > ends - at)
        if not is_bad.any():
            return at, sizes, None
        return np.where(is_bad, 0, at), np.where(is_bad, 0, sizes), is_bad

    def _slices(self, at: Ints, sizes: Ints) -> list[bytes]:
        text = self.text
        lengths = _lengths(sizes)
        if lengths is None:
            ends = (at + sizes).tolist()
            return [text[start:end] for start, end in zip(at.tolist(), ends, strict=True)]
        if len(lengths) == 1:
            only: list[bytes] = self._of_length(at, lengths[0]).tolist() if lengths[0] else []
            return only or [b""] * len(at)
        found = np.full(len(at), b"", object)
        for length in filter(None, lengths):
            places = np.flatnonzero(sizes == length)
            found[places] = self._of_length(at[places], length).tolist()
        told: list[bytes] = found.tolist()
        return told

    def _of_length(self, at: Ints, length: int) -> npt.NDArray[np.void]:
        there = np.ndarray((len(self.text) - length + 1,), f"V{length}", self.text, 0, (1,))
        found: npt.NDArray[np.void] = there[at]
        return found


def _lengths(sizes: Ints) -> list[int] | None:
    """The different ones; None: there are many."""
    if not len(sizes):
        return []
    first = int(sizes[0])
    if (sizes == first).all():
        return [first]
    found: list[int] = np.unique(sizes).tolist()
    return found if len(found) <= _MOST_LENGTHS else None


def unzigzag(told: Words) -> Ints:
    """Signed numbers, of what is written so that small ones of either sign are short."""
    signed: Ints = ((told >> _ONE) ^ (~(told & _ONE) + _ONE)).view(np.int64)
    return signed
