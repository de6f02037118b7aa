"""`python -m sdfast.warm MODEL DEVICE DTYPE SECONDS`: the worker itself; `control` starts it."""

import sys
from functools import partial

from sdfast.warm.worker import load, work

name, device, dtype, idle = sys.argv[1:]
work(partial(load, name, device, dtype, float(idle)))
