"""Randomness that is addressed, not consumed.

Every random number of a measurement is a pure function of its address: the stream (seed, cell, purpose, repeat,
step, ...), the example and the position. So it does not matter how examples are batched, in which order jobs
run or how often a run was killed. The function is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3", section 3 and table 2), computed with integer tensor operations: the same bits on every device, for
a whole batch at once.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def _mul(value: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the high and low 32 bits of a 32 x 32 bit product held in int64."""
    product = value * factor  # wraps modulo 2**64, which keeps both halves right
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return four 32-bit words (int64 tensors of values 0 to 2**32 - 1) for each counter, ten rounds.

    Args:
        counter: four tensors of 32-bit words, shapes that broadcast.
        key: two 32-bit words.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _mul(c0, _MULTIPLIERS[0])
        high1, low1 = _mul(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Draws:
    """The random numbers of some examples under one address.

    ``at`` narrows the address; the same address gives the same numbers, always, so every draw inside a method
    needs an address of its own: ``draws.at("mask", step).permutation(16)``.

    Attributes:
        address: what the stream is for, as readable words.
        examples: ``(B,)`` int64, the examples' numbers in their dataset, each below 2**32.
        copies: ``(B,)`` int64, which copy of its example a row is; each has numbers of its own. None: there are none.
    """

    address: tuple[str | int, ...]
    examples: Tensor
    copies: Tensor | None = None

    def at(self, *words: str | int) -> Draws:
        """Return the draws under a longer address."""
        return Draws((*self.address, *words), self.examples, self.copies)

    def take(self, rows: Tensor | slice) -> Draws:
        """Return the draws of some of the examples; each keeps its own numbers."""
        return Draws(self.address, self.examples[rows], None if self.copies is None else self.copies[rows])

    def repeated(self, times: int) -> Draws:
        """Return draws for a batch that holds every example ``times`` times in a row; the copies are equal."""
        copies = None if self.copies is None else self.copies.repeat_interleave(times)
        return Draws(self.address, self.examples.repeat_interleave(times), copies)

    def copied(self, first: int, stop: int) -> Draws:
        """Return draws for a batch of copies ``first`` to ``stop - 1``, each of all examples, one copy after the other.

        A copy of an example draws numbers of its own, the same ones whichever copies it shares a batch with.
        """
        copies = torch.arange(first, stop, device=self.examples.device).repeat_interleave(len(self.examples))
        return Draws(self.address, self.examples.repeat(stop - first), copies)

    def seed(self) -> int:
        """Return 63 bits for a library that seeds a generator of its own; the same for all examples.

        Raises:
            ValueError: if the rows are different copies, which a single seed cannot tell apart.
        """
        if self.copies is None or len(self.copies) == 0:
            return int.from_bytes(self._hash()[8:16], "big") >> 1
        first = int(self.copies[0])
        if bool((self.copies != first).any()):
            raise ValueError(
                "expected a single copy of the images where a library is given a seed, got several; "
                "let a batch be no larger than a shard"
            )
        return Draws((*self.address, "copy", first), self.examples).seed()

    def uniform(self, *shape: int) -> Tensor:
        """Return ``(B, *shape)`` float32, uniform on [0, 1)."""
        words = self._words(math.prod(shape))
        return ((words >> 8).to(torch.float32) * 2.0**-24).reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Return ``(B, *shape)`` float32, standard normal (Box and Muller 1958)."""
        count = math.prod(shape)
        words = self._words(2 * ((count + 1) // 2)).to(torch.float64)
        radius, angle = words.chunk(2, dim=1)
        radius = torch.sqrt(-2.0 * torch.log((radius + 0.5) * 2.0**-32))  # argument in (0, 1): never infinite
        angle = (2.0 * math.pi * 2.0**-32) * angle
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].to(torch.float32).reshape(-1, *shape)

    def permutation(self, n: int) -> Tensor:
        """Return ``(B, n)`` int64, a random order of 0 .. n - 1 for each example."""
        return self._words(n).argsort(dim=1, stable=True)

    def _hash(self) -> bytes:
        text = "\x1f".join(f"{type(word).__name__}:{word}" for word in self.address)
        return hashlib.sha256(text.encode()).digest()

    def _words(self, count: int) -> Tensor:
        """Return ``(B, count)`` 32-bit words."""
        key = self._hash()
        device = self.examples.device
        blocks = torch.arange((count + 3) // 4, dtype=torch.int64, device=device)[None, :]
        examples = self.examples.to(torch.int64)[:, None]
        none = torch.zeros((), dtype=torch.int64, device=device)
        copies = none if self.copies is None else self.copies.to(torch.int64)[:, None] + 1  # 0 is no copy
        words = philox(
            (blocks, examples & _MASK, (examples >> 32) & _MASK, copies),
            (int.from_bytes(key[0:4], "big"), int.from_bytes(key[4:8], "big")),
        )
        return torch.stack(words, dim=2).reshape(len(self.examples), -1)[:, :count]
