"""The judge of the built-in model, and the questions it is asked."""

import hashlib
import json
import random
import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "scripts" / "tiny"))

from transformers import CLIPTokenizer

import evaluate
import sdfast
from asking import Asked, ask
from backdrops import COLOURS
from captions import phrases
from decoder import repainted
from denoiser import Denoiser
from judge import NAMES, WEIGHTS, Said, load_judge, right, truth
from pictures import FONT, LATENT_SCALE, Painter
from runs import Published
from scenes import EVERYTHING, Lesson, imagine
from sdfast import load_preset
from sdfast.errors import SdfastError
from things import THINGS, many
from words import write_tokenizer

CAT, DOG, APPLE = range(3)
TINY = Path(sdfast.__file__).parent / "models" / "tiny"
FEW = Lesson(3, places=True, scenes=True, groups=0.2)


def in_threes(text):
    """Every three words in a row, with any thing or colour as one word of its kind."""
    names = [form for row in list(THINGS.values())[:3] for n in row for form in (many(n), n)]
    text = re.sub("|".join(sorted(names, key=len, reverse=True)), "THING", text.lower())
    text = re.sub("|".join(COLOURS), "COLOUR", text)
    words = ["", "", *re.findall(r"[\w-]+|,", text), "", ""]
    return set(zip(words, words[1:], words[2:], strict=False))


def test_every_held_out_prompt_has_three_words_in_a_row_that_no_caption_has():
    r = random.Random(0)
    said = set().union(*(in_threes(imagine(r, FEW).caption) for _ in range(20_000)))
    assert [a.prompt for a in ask(2000, FEW, 0) if in_threes(a.prompt) <= said] == []


def test_no_caption_has_the_words_that_held_out_prompts_say_how_many_with():
    r = random.Random(0)
    asked = ["beside", "together", "both", "single", "couple", "another", "group", "them", "one"]
    said = " ".join(imagine(r, FEW).caption for _ in range(20_000))
    assert set(asked) & set(re.findall(r"\w+", said.lower())) == set()
    prompts = " ".join(a.prompt for a in ask(2000, FEW, 0))
    assert set(asked) <= set(re.findall(r"\w+", prompts))


def test_the_questions_stay_the_ones_that_the_published_figures_are_of():
    asked = "\n".join(a.prompt for a in ask(500, EVERYTHING, 0))
    assert hashlib.sha256(asked.encode()).hexdigest()[:16] == "37970867ad48dc9c"


def test_each_thing_is_asked_for_as_often_as_the_others():
    asked = ask(500, Lesson(50), 0)
    assert all(sum(t in a.things for a in asked) == 10 for t in range(50))


def test_what_was_never_taught_is_not_asked_for():
    for a in ask(500, Lesson(48), 0):
        assert max(a.things) < 48
        assert a.background in ("", *COLOURS)
        assert a.count in ("", "one")


def test_of_a_pair_both_must_be_seen():
    said = Said((DOG, CAT), "blue", "pair")
    assert said.names(frozenset({CAT, DOG}))
    assert said.names(frozenset({DOG}))
    assert not said.names(frozenset({CAT}))
    assert not said.names(frozenset({DOG, APPLE}))


def test_what_was_left_open_cannot_be_wrong():
    asked = Asked("a dog", frozenset({DOG}), "", "", "{what}")
    assert evaluate.SHOWN["all"](asked, Said((DOG, CAT), "purple", "three"))
    assert evaluate.SHOWN["colour"](asked, Said((DOG, CAT), "purple", "three")) is None
    asked = asked._replace(background="blue")
    assert not evaluate.SHOWN["all"](asked, Said((DOG, CAT), "purple", "three"))


def test_a_row_that_cannot_be_painted_stays_in_the_table_with_its_reason():
    failed = evaluate.measured(evaluate.Failed("rk45@7", "seven will not do"), [], None)
    done = {"row": "fast@10", "calls": 10, "thing": 87.25, "scene": None}
    top, _, *rows, _, reason = evaluate.table([done, failed]).splitlines()
    assert [re.split(r"\s*\|\s*", line.strip("| ")) for line in (top, *rows)] == [
        ["calls", "thing"],
        ["fast@10", "10", "87.2"],
        ["rk45@7", "-", "-"],
    ]
    assert reason == "rk45@7 could not be painted: seven will not do"


def test_a_row_is_a_preset_or_a_sampler_with_its_steps():
    assert evaluate.sampler_of("fast@10") == load_preset("fast").sampler
    assert evaluate.sampler_of("pndm@50") == load_preset("pndm50").sampler
    assert evaluate.sampler_of("dpm++@25") == load_preset("fine").sampler
    assert evaluate.row_names("fast@8,targets,fast@8") == ["fast@8", "default@20", "fast@10"]


@pytest.mark.parametrize("rows", ["fastt@10", "fast@ten", "fast@-1", ""])
def test_a_misspelt_row_is_refused_before_anything_is_painted(rows):
    with pytest.raises(SdfastError):
        evaluate.row_names(rows)


def test_the_judge_fits_into_a_repository():
    assert WEIGHTS.stat().st_size < 1.5e6


@pytest.mark.parametrize("other", range(1, len(COLOURS)))
def test_the_judge_sees_the_colour_of_a_background(other):
    """A disc of another colour stands in for the thing, so that no font is needed."""
    y, x = torch.meshgrid(*[torch.arange(128) - 63.5] * 2, indexing="ij")
    disc = (torch.hypot(x, y) < 40).float()
    flat = torch.tensor([*COLOURS.values()])[:, :, None, None] / 127.5 - 1
    said = load_judge().say(flat * (1 - disc) + flat.roll(other, 0) * disc)
    assert [s.background for s in said] == [*COLOURS]


@pytest.mark.skipif(not FONT.is_file(), reason="needs Debian's fonts-noto-color-emoji")
def test_the_judge_names_what_was_painted_plainly():
    r = random.Random("unseen")
    scenes = [imagine(r, EVERYTHING) for _ in range(300)]
    pictures = Painter(torch.device("cpu")).paint(scenes)
    found = right(load_judge(), pictures, [truth(s) for s in scenes])
    assert min(found["thing"], found["background"], found["count"]) >= 95, found
    assert len(NAMES) == EVERYTHING.things


def test_a_published_model_that_reads_with_more_words_reads_the_old_ones_as_before(tmp_path):
    published = Published.read(TINY)
    write_tokenizer(tmp_path, ["zeppelin", *phrases(EVERYTHING.things, scenes=True)])
    own, wider = map(CLIPTokenizer.from_pretrained, (TINY / "tokenizer", tmp_path))
    text = "a penguin and a birthday cake in the galaxy, a little rainbow, two parrots"
    assert own(text).input_ids != wider(text).input_ids
    said = [
        model.networks["text"].eval()(**reader(text, return_tensors="pt"))
        for model, reader in ((published, own), (published.respelled(wider), wider))
    ]
    torch.testing.assert_close(said[0].last_hidden_state.float(), said[1].last_hidden_state)


def test_pictures_are_painted_and_judged_from_end_to_end(tmp_path, monkeypatch, capsys):
    rows, table = tmp_path / "rows.json", tmp_path / "table.md"
    words = ["evaluate", "--rows", "fast@10", "--count", "2", "--converged", "12"]
    words += ["--device", "cpu", "--json", str(rows), "--markdown", str(table)]
    monkeypatch.setattr(sys, "argv", words)
    assert evaluate.main() == 0
    fast, converged = json.loads(rows.read_text())["rows"]
    assert (fast["row"], converged["row"]) == ("fast@10", "converged@12")
    assert 0 < fast["off"] < 20
    assert converged["off"] == 0
    assert capsys.readouterr().out.strip() in table.read_text()


class Knowing(torch.nn.Module):
    """A UNet that knows what is beneath the noise, and keeps what it was asked."""

    def __init__(self, z):
        super().__init__()
        self.z, self.asked, self.schedule = z, [], None

    def forward(self, x, t, context, return_dict):
        alpha, sigma = (s[t] for s in self.schedule)
        self.asked.append((x[: len(self.z)], int(t)))
        z = torch.cat([self.z, self.z])
        return [(alpha * x - z) / sigma]


@pytest.fixture
def knowing():
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    unet = Knowing(z)
    text = Published.read(TINY).networks["text"]
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    denoiser = Denoiser(tokenizer, torch.device("cpu"), {"unet": unet, "text": text})
    unet.schedule = denoiser.alpha, denoiser.sigma
    return denoiser


def test_latents_are_noised_to_a_time_and_walked_back_in_four_calls(knowing):
    z, asked = knowing.unet.z, knowing.unet.asked
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    back = knowing.repaint(z, noise, 400, ["a cat", "two dogs"])
    noisy = knowing.alpha[400] * z + knowing.sigma[400] * noise
    assert [t for _, t in asked] == [400, 300, 200, 100]
    torch.testing.assert_close(asked[0][0], noisy)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-4)


def test_the_decoder_is_given_thumbnails_of_their_own_scale_each_step_at_another_time(knowing):
    scenes = [imagine(random.Random(k), FEW) for k in range(2)]
    target = knowing.unet.z / LATENT_SCALE
    for step in (1, 1, 2):
        back = repainted(knowing, target, scenes, step)
        torch.testing.assert_close(back, target, rtol=0, atol=0.02)
    first, again, other = knowing.unet.asked[::4]
    assert torch.equal(first[0], again[0])
    assert first[1] != other[1]


def test_tiny_paints_anew_what_the_caption_says_near_to_what_was_there():
    known = Published.read(TINY).networks
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    denoiser = Denoiser(tokenizer, torch.device("cpu"), known)
    said = ["a cat on a red background", "two dogs on a blue background"]
    z = denoiser.sample(said)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    off = denoiser.repaint(z, noise, 300, said) - z
    other = denoiser.repaint(z, noise, 300, said[::-1]) - z
    assert 0 < 5 * off.square().mean() < other.square().mean()
