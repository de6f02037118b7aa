"""How ctrl-C breaks something off: anywhere but in the middle of an import.

A KeyboardInterrupt there may be swallowed by the C code that imports, or leave a module half there
that cannot be imported again. So it waits until the import has ended.
"""

import _thread
import signal
import threading
from types import CodeType, FrameType

_PATIENCE = 0.02
"""Seconds between two looks at whether the import has ended."""


class Breaker:
    """Raises KeyboardInterrupt from a signal's handler, in what a function has called."""

    def __init__(self, root: CodeType) -> None:
        self.broke = False
        """Whether it has."""
        self._root = root
        self._over = threading.Event()
        self._asks = False

    def break_off(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, or see to it that the handler is called again."""
        if not self._importing(frame):
            self.broke = True
            self._over.set()
            raise KeyboardInterrupt
        if not self._asks:
            self._asks = True
            threading.Thread(target=self._ask, args=(number,), daemon=True).start()

    def close(self) -> None:
        """Raise nothing more."""
        self._over.set()

    def _ask(self, number: int) -> None:
        main = threading.main_thread().ident
        while not self._over.wait(_PATIENCE):
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
