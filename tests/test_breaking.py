"""What a signal breaks off, and what not."""

import os
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from sdfast.cli.breaking import broken_off_by
from sdfast.spawning import spawned

HERE = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"
MODULES = {
    "struck": HERE,
    "above": "import struck\nwhole = True\n",
    "forgiving": "try: import struck\nexcept BaseException: pass\nwhole = True\n",
    "struck_often": HERE.replace("os.kill", "for _ in 'abc': os.kill"),
}


@pytest.fixture(autouse=True)
def _modules(interruptible, monkeypatch, tmp_path):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def strike(*_):
    os.kill(os.getpid(), signal.SIGINT)


def imported(name):
    import_module(name)
    return "it went on"


def imported_last(name):
    return import_module(name)


def imported_by_an_attribute(name):
    class Lazy:
        def __getattr__(self, _):
            return import_module(name)

    return hasattr(Lazy(), "anything")


def imported_by_what_is_written_in_c(name):
    return sorted("ba", key=lambda _: import_module(name).whole)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "work",
    [imported, imported_last, imported_by_an_attribute, imported_by_what_is_written_in_c],
)
def test_an_import_is_not_broken_off_but_what_comes_after_it(work, name):
    with pytest.raises(KeyboardInterrupt), broken_off_by(signal.SIGINT):
        work(name)
    assert sys.modules[name].whole
    assert sys.gettrace() is None


def test_an_import_that_fails_is_an_interrupt(tmp_path):
    (tmp_path / "broken.py").write_text(f"{HERE}raise ImportError('half')\n")
    with pytest.raises(KeyboardInterrupt), broken_off_by(signal.SIGINT), suppress(ImportError):
        import_module("broken")


def test_all_else_is_broken_off_where_it_is():
    done = []
    with pytest.raises(KeyboardInterrupt), broken_off_by(signal.SIGINT):
        done.append(sorted("ba", key=strike))
    assert not done


@pytest.mark.parametrize("struck", [True, False])
def test_what_goes_wrong_once_it_is_broken_off_is_an_interrupt(struck):
    def work():
        if struck:
            with suppress(KeyboardInterrupt):
                strike()
        raise ZeroDivisionError

    wanted = KeyboardInterrupt if struck else ZeroDivisionError
    with pytest.raises(wanted), broken_off_by(signal.SIGINT):
        work()


def test_who_is_asked_decides():
    asked = []
    with broken_off_by(signal.SIGINT, signal.SIGTERM, when=asked.append):
        os.kill(os.getpid(), signal.SIGTERM)
        strike()
    assert asked == [signal.SIGTERM, signal.SIGINT]


def test_handlers_are_put_back_and_what_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with broken_off_by(signal.SIGINT, signal.SIGTERM):
        assert signal.getsignal(signal.SIGTERM) is not before
        strike()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_hears_nothing():
    def work():
        with broken_off_by(signal.SIGINT):
            heard.append(signal.getsignal(signal.SIGINT))

    heard = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [signal.default_int_handler]


def test_a_process_beside_this_one_imports_nothing_from_the_folder_it_stands_in(here):
    for name in ("signal", "struct", "socket", "pickle"):
        Path(f"{name}.py").write_text("raise SystemExit(3)")
    process = spawned(print)
    process.join(60)
    assert process.exitcode == 0
    assert "PYTHONSAFEPATH" not in os.environ
