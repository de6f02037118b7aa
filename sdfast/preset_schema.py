"""The JSON schema of a preset file, for editors that check YAML while it is typed."""

import ast
import inspect
from itertools import pairwise
from typing import Any, get_args

from sdfast.job import Job
from sdfast.presets import PRESET_KEYS
from sdfast.sampler import Sampler, Solver


def schema() -> dict[str, Any]:
    """What a preset may say, and what each key means."""
    job, sampler = _described(Job), _described(Sampler)
    sampler["sampler"] = {
        "type": "string",
        "description": ", ".join(get_args(Solver)) + " or another program's name for one",
    }
    about = {"about": {"type": "string", "description": "What it is for."}}
    known = job | sampler | about
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sdfast preset",
        "type": "object",
        "additionalProperties": False,
        "properties": {key: known[key] for key in PRESET_KEYS},
    }


def _described(kind: type[Job | Sampler]) -> dict[str, Any]:
    """The fields of a schema, each with the words that stand beneath it in the code."""
    found: dict[str, Any] = kind.model_json_schema()["properties"]
    (known,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(known, ast.ClassDef)
    for field, beneath in pairwise(known.body):
        match field, beneath:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                found[name]["description"] = " ".join(text.replace("`", "").split())
            case _:
                pass
    return found
