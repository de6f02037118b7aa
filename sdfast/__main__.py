"""`python -m sdfast`, which hands no call to a worker's front."""

from sdfast.entry import main

main(alone=True)
