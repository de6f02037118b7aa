"""Writes a run's averaged networks as a model in Stable Diffusion's layout, in half precision.

python scripts/tiny/export.py --run runs/tiny --to sdfast/models/tiny
"""

import argparse
import json
import re
from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

import denoiser
from captions import phrases
from networks import SCHEDULE, text_encoder, unet, vae
from runs import Published, of_other_networks
from things import THINGS

GUIDANCE = 3.0


def averaged(
    run: Path, networks: dict[str, nn.Module], published: Published | None
) -> tuple[dict[str, nn.Module], int]:
    """The networks with their running averages in place, and the step they come from.

    Those that a run has not trained are the published ones.
    """
    checkpoint = run / "checkpoint.pt"
    if published and not checkpoint.exists():
        return published.networks, published.steps[run.name]
    found = torch.load(checkpoint, weights_only=True, map_location="cpu")
    for name, network in networks.items():
        prefix = f"{name}."
        average = {
            k.removeprefix(prefix): v for k, v in found["average"].items() if k.startswith(prefix)
        }
        try:
            network.load_state_dict(found["networks"][name] | average)
        except (KeyError, RuntimeError) as error:
            raise of_other_networks(checkpoint, error) from error
    return networks, found["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--to", type=Path, default=Path("sdfast/models/tiny"))
    parser.add_argument("--published", type=Path, help="an exported model the run went on from")
    given = parser.parse_args()

    to: Path = given.to
    published = Published.read(given.published) if given.published else None
    reads_anew = not published or (given.run / "unet" / "checkpoint.pt").exists()
    words = (given.run if reads_anew else given.published) / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(words)
    painters, painted = averaged(
        given.run / "unet", {"unet": unet(), "text": text_encoder(len(tokenizer))}, published
    )
    eyes, seen = averaged(given.run / "vae", {"vae": vae()}, published)
    for name, network in {
        "unet": painters["unet"],
        "text_encoder": painters["text"],
        "vae": eyes["vae"],
    }.items():
        network.half().save_pretrained(to / name, safe_serialization=True)
    text = to / "text_encoder" / "model.safetensors"
    named = {k.removeprefix("text_model."): v for k, v in load_file(text).items()}
    weights = {f"text_model.{k}": v for k, v in named.items()}
    save_file(
        weights, text, {"format": "pt"}
    )  # Stable Diffusion's names: any transformers reads them
    text.chmod(0o644)
    for config in to.glob("*/config.json"):
        told = json.loads(config.read_text())
        told.pop("_name_or_path", None)  # where it went on from
        if config.parent.name == "text_encoder":
            told["dtype"] = "float32"  # as which diffusers reads the others
        config.write_text(json.dumps(told, indent=2) + "\n")
    (to / "tokenizer").mkdir(parents=True, exist_ok=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (to / "tokenizer" / file).write_bytes((words / file).read_bytes())

    scheduler = {
        "_class_name": "DPMSolverMultistepScheduler",
        **SCHEDULE,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "steps_offset": 1,
        "set_alpha_to_one": False,
    }
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    lesson = denoiser.LESSONS.at(painted)
    said = " ".join(phrases(lesson.things, scenes=lesson.scenes)).lower()
    pieces = tokenizer.get_vocab()
    hints = {
        "guidance": GUIDANCE,
        "steps": {"unet": painted, "vae": seen},
        "things": [names[0] for names in THINGS.values()][: lesson.things],
        "words": sorted(w for w in {*re.findall("[a-z]+", said)} if f"{w}</w>" in pieces),
    }
    for file, values in {
        "scheduler/scheduler_config.json": scheduler,
        "model_index.json": index,
        "sdfast.json": hints,
    }.items():
        (to / file).parent.mkdir(exist_ok=True)
        (to / file).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    print(f"{sum(f.stat().st_size for f in to.rglob('*') if f.is_file()) / 1e6:.1f} MB in {to}")


if __name__ == "__main__":
    main()
