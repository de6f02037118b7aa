"""`python -m sdfast`."""

from sdfast.cli import main
from sdfast.entry import open_streams

open_streams()
main()
