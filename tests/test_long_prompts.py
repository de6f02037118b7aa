"""Long and weighted prompts against transformers' own text encoders, asked chunk by chunk."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from small import write_xl_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sdfast import Job, Sampler, generate, load_model
from sdfast.engine import generate_together
from sdfast.errors import JobError
from sdfast.events import Encoded, Finished, Stepped
from sdfast.models.parts import emphasized
from sdfast.solver import classifier_free
from sdfast.solver.guidance import joined

PLAIN = [("fog", 1.0)]
"""Chunks as (words, weight); each word is one letter, and each letter a token."""


def said(*runs):
    """A chunk: so many of each letter, with a weight."""
    return [(letter, weight) for letter, count, weight in runs for _ in range(count)]


PROMPTS = {
    "a " * 75: [said(("a", 75, 1))],
    "a " * 76: [said(("a", 75, 1)), said(("a", 1, 1))],
    "(" + "a " * 40 + ":1.3), [" + "b " * 50 + "] c BREAK (d:0.5)": [
        said(("a", 40, 1.3), (",", 1, 1), ("b", 34, 1 / 1.1)),
        said(("b", 16, 1 / 1.1), ("c", 1, 1)),
        said(("d", 1, 0.5)),
    ],
    "a " * 60 + ", " + "(b " * 30 + ":1.5)" + ")" * 29: [
        said(("a", 60, 1), (",", 1, 1)),
        [("b", 1.1 ** (k + 1) if k < 29 else 1.1**29 * 1.5) for k in range(30)],
    ],
}


@pytest.fixture(scope="module")
def folders(small, tmp_path_factory):
    """A model of each family, with random text encoders of four layers, or five, that differ."""
    torch.manual_seed(1)
    made = {}
    for family in ("1.x", "2.x"):
        folder = made[family] = shutil.copytree(small, tmp_path_factory.mktemp("long") / family)
        _deepen(folder, "", CLIPTextModel, "gelu" if family == "2.x" else "quick_gelu")
    folder = made["XL"] = write_xl_model(tmp_path_factory.mktemp("long") / "xl")
    _deepen(folder, "", CLIPTextModel, "quick_gelu", layers=5)
    _deepen(folder, "_2", CLIPTextModelWithProjection, "gelu")
    for folder, end in ((made["2.x"], ""), (made["XL"], "_2")):
        _pad_with_an_exclamation_mark(folder / f"tokenizer{end}")
    return made


def _deepen(folder, end, kind, activation, layers=4):
    config = CLIPTextConfig.from_pretrained(folder / f"text_encoder{end}")
    config.num_hidden_layers, config.hidden_act = layers, activation
    encoder = kind(config)
    for weights in encoder.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    encoder.save_pretrained(folder / f"text_encoder{end}")


def _pad_with_an_exclamation_mark(folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": "!"}))


def theirs(folder, end, kind, chunks, layer):
    """What transformers' model says, each chunk by itself, weighed as the web UI does."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{end}")
    encoder = kind.from_pretrained(folder / f"text_encoder{end}").eval()
    states, wholes = [], []
    for chunk in chunks:
        words = "".join(f"{letter} " for letter, _ in chunk)
        ids = tokenizer(words, padding="max_length", max_length=77).input_ids
        assert len(ids) == 77
        out = encoder(torch.tensor([ids]), output_hidden_states=True)
        z = layer(encoder, out)[0]
        weights = torch.ones(77)
        weights[1 : 1 + len(chunk)] = torch.tensor([weight for _, weight in chunk])
        weighed = z * weights[:, None]
        states.append(weighed * z.mean() / weighed.mean())
        wholes.append(getattr(out, "text_embeds", None))
    return torch.cat(states), wholes[0]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p[-20:])
@pytest.mark.parametrize("family", ["1.x", "2.x"])
@torch.inference_mode()
def test_a_long_weighted_prompt_is_what_transformers_says_chunk_by_chunk(family, prompt, folders):
    folder, chunks = folders[family], PROMPTS[prompt]
    wanted, _ = theirs(folder, "", CLIPTextModel, chunks, lambda _, out: out.last_hidden_state)
    got = load_model(str(folder), device="cpu").encode(prompt)
    assert got.shape == (1, 77 * len(chunks), 16)
    torch.testing.assert_close(got[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p[-20:])
@torch.inference_mode()
def test_xl_reads_it_with_both_encoders_and_takes_the_whole_of_the_first_chunk(prompt, folders):
    folder, chunks = folders["XL"], PROMPTS[prompt]
    ends = (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection))
    one, two = (theirs(folder, *e, chunks, lambda _, out: out.hidden_states[-2]) for e in ends)
    got = load_model(str(folder), device="cpu").encode(prompt)
    wanted = torch.cat([one[0], two[0]], -1)
    torch.testing.assert_close(got[0][0], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[1], two[1], rtol=1e-4, atol=1e-4)


def test_tiny_reads_in_chunks_of_thirty_tokens():
    model = load_model("tiny", device="cpu")
    lengths = [model.encode("cat " * count).shape[1] for count in (30, 31)]
    assert lengths == [32, 2 * 32]


@pytest.mark.parametrize("family", ["1.x", "XL"])
def test_prompts_that_are_read_together_mean_what_each_means_alone(family, folders):
    model = load_model(str(folders[family]), device="cpu")
    prompts = ["fog", *PROMPTS, "", "fog"]
    together = model.encode_all(prompts)
    for prompt, got in zip(prompts, together, strict=True):
        torch.testing.assert_close(got, model.encode(prompt), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["1.x", "2.x"])
@pytest.mark.parametrize("ours", [1, 2, 3, 4])
@torch.inference_mode()
def test_clip_skip_counts_one_more_than_diffusers_does(family, ours, folders):
    pipeline = StableDiffusionPipeline.from_pretrained(folders[family], safety_checker=None)
    encoder = pipeline.text_encoder  # this diffusers looks for a part that transformers 5 has not
    encoder.__dict__.setdefault("text_model", encoder)
    wanted, _ = pipeline.encode_prompt("fog", "cpu", 1, False, clip_skip=ours - 1 or None)
    model = load_model(str(folders[family]), device="cpu")
    got = model.encode("fog", ours)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert (got - model.encode("fog", ours % 4 + 1)).abs().max() > 0.1
    if ours == 1:
        assert torch.equal(got, model.encode("fog"))


@pytest.mark.parametrize("ours", [1, 2, 3, 4])
@torch.inference_mode()
def test_clip_skip_on_xl_counts_two_more_than_diffusers_and_begins_at_two(ours, folders):
    pipeline = StableDiffusionXLPipeline.from_pretrained(folders["XL"])
    skip = max(ours - 2, 0)
    wanted, _, whole, _ = pipeline.encode_prompt(
        "fog", device="cpu", do_classifier_free_guidance=False, clip_skip=skip
    )
    model = load_model(str(folders["XL"]), device="cpu")
    got = model.encode("fog", ours)
    torch.testing.assert_close(got[0], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[1], whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(got[0], model.encode("fog")[0]) == (ours <= 2)


@pytest.mark.parametrize("family", ["1.x", "XL"])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(family, folders):
    model = load_model(str(folders[family]), device="cpu")
    with pytest.raises(JobError, match=r"clip_skip must be from 1 to 4 for `.*`, not 5"):
        list(generate(model, Job(prompt="fog", clip_skip=5)))


def test_weights_of_one_change_nothing_and_a_mean_of_nothing_divides_nothing():
    states = torch.randn(2, 3, 4)
    assert emphasized(states, [[1.0] * 3] * 2) is states
    flat = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    assert emphasized(flat, [[-1.0, 1.0]]).isfinite().all()
    assert emphasized(states.half(), [[1.0, 2.0, 1.0]] * 2).dtype == torch.float16


@torch.inference_mode()
def test_prompts_of_unlike_lengths_are_guided_as_if_each_were_asked_alone(folders):
    for family in ("1.x", "XL"):
        model = load_model(str(folders[family]), device="cpu")
        x = torch.randn(1, 4, 8, 8)
        plain, told = model.encode("b " * 80), model.encode("a " * 160)
        alone = [model.predict(x, 500.0, c) for c in (plain, told)]
        guided = classifier_free(model.predict, told, plain, 3.0)(x, 500.0)
        wanted = alone[0] + 3 * (alone[1] - alone[0])
        torch.testing.assert_close(guided, wanted, rtol=1e-4, atol=1e-4)
        first = joined([plain, told])
        assert (first if family == "1.x" else first[0]).shape[1] == 6 * 77


@torch.inference_mode()
@pytest.mark.parametrize("family", ["1.x", "2.x", "XL"])
def test_what_does_not_depend_on_the_prompt_is_worked_out_once_for_both_halves(folders, family):
    model = load_model(str(folders[family]), device="cpu")
    x = torch.randn(2, 4, 8, 8)
    told = joined([model.encode(words) for words in ("a", "b", "c", "d")])
    torch.testing.assert_close(
        model.predict(x, 500.0, told), model.predict(torch.cat([x, x]), 500.0, told)
    )


def test_very_many_words_that_do_not_go_together_are_asked_apart():
    asked = []

    def network(x, t, condition):
        asked.append((len(x), condition.shape[1]))
        return x + condition.mean()

    plain, told = torch.zeros(1, 53, 2), torch.ones(1, 79, 2)
    guided = classifier_free(network, told, plain, 2.0)
    torch.testing.assert_close(guided(torch.zeros(1, 1), 1.0), torch.full((1, 1), 2.0))
    assert asked == [(1, 53), (1, 79)]


def test_pictures_whose_prompts_are_of_one_length_share_a_walk_and_all_are_what_they_are_alone(
    folders,
):
    model = load_model(str(folders["1.x"]), device="cpu", dtype="fp32")
    sampler = Sampler(steps=2)
    jobs = [Job(prompt=p, seed=1, sampler=sampler) for p in ("fog", "a " * 80, "ice")]
    events = list(generate_together(model, jobs))
    encoded = [e.job.prompt for e in events if isinstance(e, Encoded)]
    assert encoded == [jobs[k].prompt for k in (0, 2, 1)]
    assert sum(isinstance(e, Stepped) for e in events) == 4
    finished = [e for e in events if isinstance(e, Finished)]
    assert [(e.job.prompt, e.together) for e in finished] == [
        (job.prompt, together) for job, together in zip(jobs, (2, 1, 2), strict=True)
    ]
    pictures = [np.asarray(e.image).astype(int) for e in finished]
    alone = [np.asarray(list(generate(model, job))[-1].image).astype(int) for job in jobs]
    assert all(abs(one - other).max() <= 2 for one, other in zip(pictures, alone, strict=True))
    nearest = [min(range(3), key=lambda k: abs(one - alone[k]).sum()) for one in pictures]
    assert nearest == [0, 1, 2]
