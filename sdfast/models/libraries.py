"""diffusers and transformers, kept from speaking to people who have not asked for them."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet() -> Generator[None]:
    """In here the libraries neither warn nor log nor draw a bar; then they are as they were."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [
        (logging, logging.get_verbosity(), logging.is_progress_bar_enabled())
        for logging in (of_diffusers, of_transformers)
    ]
    for logging, _, _ in before:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logging, verbosity, drawn in before:
            logging.set_verbosity(verbosity)
            if drawn:
                logging.enable_progress_bar()
