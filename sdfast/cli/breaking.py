"""How ctrl-C breaks something off: anywhere but in the middle of an import.

A KeyboardInterrupt there may be swallowed by the C code that imports, or leave a module half there
that cannot be imported again. So it waits until the import has ended.
"""

import _thread
import signal
import threading
import time
from types import CodeType, FrameType

_PATIENCE = 0.02
"""Seconds between two looks at whether the import has ended."""


class Breaker:
    """Raises KeyboardInterrupt from a signal's handler, in what a function has called."""

    def __init__(self, root: CodeType) -> None:
        self.asked, self.broke = False, False
        """Whether it is to, and whether it has."""
        self._root = root
        self._asker: threading.Thread | None = None
        self._resting = False

    def break_off(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, or see to it that the handler is called again."""
        if self._resting:
            return
        self.asked = True
        if not self._importing(frame):
            self.broke = True
            self._rest()
            raise KeyboardInterrupt
        if self._asker is None:
            self._asker = threading.Thread(target=self._ask, args=(number,), daemon=True)
            self._asker.start()

    def close(self) -> None:
        """Let nobody ask any more, so that the handler can go."""
        self._rest()

    def _rest(self) -> None:
        """Wait for the last signal that is sent from here: it means nothing any more."""
        self._resting = True
        if self._asker is not None:
            self._asker.join()
            self._asker = None
        self._resting = False

    def _ask(self, number: int) -> None:
        main = threading.main_thread().ident
        while not self._resting:
            time.sleep(_PATIENCE)
            if main is not None and hasattr(signal, "pthread_kill"):  # wakes who sleeps, too
                signal.pthread_kill(main, number)
            else:
                _thread.interrupt_main(signal.Signals(number))

    def _importing(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code is not self._root:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
            frame = frame.f_back
        return False
