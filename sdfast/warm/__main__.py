"""`python -m sdfast.warm MODEL DEVICE DTYPE SECONDS`: the worker itself; `control` starts it."""

import sys

from sdfast.warm.worker import main

name, device, dtype, idle = sys.argv[1:]
main(name, device, dtype, float(idle))
