"""`python -m sdfast`."""

from sdfast.cli import main

main()
