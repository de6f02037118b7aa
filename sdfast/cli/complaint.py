"""How a command speaks on stderr, above all of what went wrong: a line, and the way out of it."""

import sys

import typer

from sdfast.errors import SdfastError, printable

_SAID_HERE = {
    "--size 512x512": "-W -H --width --height --W --H",
    "--guidance 7.5": "--cfg --cfg-scale --cfg_scale --scale --guidance-scale --guidance_scale",
    "--steps 20": "--num-inference-steps --num_inference_steps --ddim_steps --ddim-steps",
    "--negative TEXT": "--negative-prompt --negative_prompt --neg",
    "--sampler NAME": "--sampling-method --sampler-name --sampler_name --solver",
    "--sampler NAME, or --spacing NAME for karras and the like": "--scheduler",
    "--spacing NAME": "--schedule --schedule-type --noise-schedule --sigmas",
    "--set eta=0.5": "--eta",
    "--out FOLDER/": "--output --outdir --out-dir --outpath --output-dir",
    "--model NAME": "--ckpt --checkpoint --model-path --diffusion-model",
    "--strength 0.6": "--denoising-strength --denoise --denoising_strength",
    "--variation-seed N": "--subseed",
    "--variation-strength 0.2": "--subseed-strength --variation --variations",
    "--hires 2": "--hires-fix --hires-scale --hr-scale --enable-hr --upscale",
    "--init PICTURE": "--init-img --init-image --init_img --image",
    "-n 4": "--n_iter --n-iter --n_samples --batch-count --num-images --number",
    "the prompt needs no flag": "--prompt --text",
}
_ELSEWHERE = {flag: here for here, flags in _SAID_HERE.items() for flag in flags.split()}
"""Flags of diffusers', Stable Diffusion's and others' scripts, and what stands for them here."""


def say(text: str) -> None:
    """What is worth knowing, a line on stderr and at once."""
    print(printable(text), file=sys.stderr, flush=True)


def counted(count: int, what: str) -> str:
    """So many of a thing, by a word that an `s` makes several of."""
    return f"{count} {what}{'s' * (count != 1)}"


def complain(error: SdfastError) -> None:
    """Print an error on stderr."""
    say_error(str(error), error.hint)


def say_error(problem: str, hint: str = "") -> None:
    say(f"error: {problem}")
    if hint:
        say(f"hint: {hint}")


def say_misuse(error: typer.TyperException) -> None:
    """Print what is wrong with the words of a call; a flag of others is answered with ours."""
    flag = getattr(error, "option_name", None)
    if flag in _ELSEWHERE and sys.argv[1:2] in (["gen"], ["batch"], ["grid"]):
        say_error(f"there is no flag {flag}", _ELSEWHERE[flag])
        return
    hint = "a prompt that begins with `-` stands after `--`" if flag and _is_text(flag) else ""
    say_error(error.format_message().rstrip("."), hint or "--help shows how")


def _is_text(flag: str) -> bool:
    """Whether what was taken for a flag is the beginning of some words."""
    words = [word for word in sys.argv[2:] if word.startswith(flag)]
    return sys.argv[1] in ("gen", "grid") and any(" " in w and "=" not in w for w in words)
