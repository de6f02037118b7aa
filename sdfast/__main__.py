"""`python -m sdfast`."""

from sdfast.entry import alone

alone()
