"""A walk that waits for the GPU is slow and right; here it is an error."""

import warnings
from contextlib import contextmanager

import torch


@contextmanager
def no_waiting():
    """In here, an operation that waits for the GPU raises RuntimeError."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it may overlook some
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
