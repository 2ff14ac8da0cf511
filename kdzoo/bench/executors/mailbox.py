"""Where the tasks of a cluster leave word of their progress. Imports nothing: its process stays small."""

from __future__ import annotations


class Mailbox:
    """Pickled events in the order in which they came; made an actor by :mod:`kdzoo.bench.executors.ray`."""

    def __init__(self) -> None:
        self._letters: list[bytes] = []

    def tell(self, letter: bytes) -> None:
        """Leave an event."""
        self._letters.append(letter)

    def read(self) -> list[bytes]:
        """Take all events that are there."""
        letters, self._letters = self._letters, []
        return letters
