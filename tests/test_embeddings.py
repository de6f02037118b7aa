"""Textual inversion: what a word becomes, where it stands, and what diffusers makes of it."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from small import write_xl_model

from sdfast import Job, generate
from sdfast.errors import JobError, ModelError
from sdfast.fields import named
from sdfast.job import read_job
from sdfast.models import load_model
from sdfast.models.chunks import Token, lay_out
from sdfast.models.dressed import dressed
from sdfast.models.find import find
from sdfast.models.learned import Learned
from sdfast.models.source import Embedding
from sdfast.warm.greeting import circumstances, holding, stamp


def rows(count, width=16):
    torch.manual_seed(count)
    return torch.randn(count, width)


def write(path, **tensors):
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return write_xl_model(tmp_path_factory.mktemp("xl") / "model")


def learned(*words, known=100):
    return Learned([Embedding(None, word, count, {}) for word, count in words], known)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat", ["a ", [100, 101], ""]),
        ("CAT, Cat", ["", [100, 101], ", ", [100, 101], ""]),
        ("cats, a bobcat, cat9", ["cats, a bobcat, cat9"]),
        ("cat-food cat_2 a_cat 2-cat", ["cat-food cat_2 a_cat 2-cat"]),
        ("-cat- cat/food", ["-", [100, 101], "- ", [100, 101], "/", [103], ""]),
        ("a <cat-toy>, b", ["a ", [102], ", b"]),
        ("in bad   hands", ["in ", [104, 105, 106], ""]),
        ("", [""]),
    ],
)
def test_a_whole_word_becomes_its_tokens_in_any_case_and_the_longest_wins(text, pieces):
    words = learned(("cat", 2), ("<cat-toy>", 1), ("food", 1), ("bad hands", 3))
    assert list(words.split(text)) == pieces


@pytest.mark.parametrize(
    ("prompts", "unsaid"),
    [
        (["a (CAT:1.2)", "bad  hands"], ["food", "(o)"]),
        (["bad", "a hand, food"], ["bad hands", "cat", "(o)"]),
        ([r"a \(o\)", "food BREAK cat"], ["bad hands"]),
        (["(o)"], ["bad hands", "food", "cat", "(o)"]),
    ],
)
def test_a_word_is_unsaid_if_it_stands_in_no_prompt(prompts, unsaid):
    words = learned(("cat", 2), ("food", 1), ("bad hands", 3), ("(o)", 1))
    assert sorted(words.unsaid(prompts)) == sorted(unsaid)


def token_runs():
    """Words, and embeddings of up to five rows; 0 is a comma."""
    word = st.integers(0, 3).map(lambda i: [Token(i, 1.0)])
    embedding = st.integers(2, 5).map(lambda n: [Token(100 + k, 1.0, n - 1 - k) for k in range(n)])
    return st.lists(word | embedding, max_size=60)


@given(token_runs(), st.integers(5, 40))
def test_no_embedding_is_split_and_nothing_is_lost(runs, room):
    tokens = [token for run in runs for token in run]
    chunks = lay_out([tokens], room, 0)
    assert [token for chunk in chunks for token in chunk] == tokens
    assert all(len(chunk) <= room for chunk in chunks)
    assert all(not chunk or chunk[-1].more == 0 for chunk in chunks)


@pytest.mark.parametrize(
    ("before", "count", "sizes"),
    [(72, 3, [75]), (73, 3, [73, 3]), (75, 3, [75, 3]), (0, 75, [75]), (1, 75, [1, 75])],
)
def test_one_that_does_not_fit_any_more_begins_the_next_chunk(before, count, sizes):
    tokens = [Token(1, 1.0)] * before + [Token(9, 1.0, count - 1 - k) for k in range(count)]
    assert [len(chunk) for chunk in lay_out([tokens], 75, 0)] == sizes


@pytest.mark.parametrize("form", ["emb_params", "<x>"])
@torch.inference_mode()
def test_its_rows_are_read_in_their_places_with_its_weight(small, tmp_path, form):
    """Rows that are those of letters read as the letters do, weighed as they would be."""
    table = load_model(str(small), device="cpu")._texts[0].encoder.embeddings.token_embedding.weight
    letters = [load_model(str(small), device="cpu")._texts[0].reader.read(c)[0] for c in "fog"]
    path = write(tmp_path / "fog1.safetensors", **{form: table[letters].clone()})
    model = load_model(str(small), device="cpu", embedding=[f"{path}:mist"])
    for with_it, without in (("a mist b", "a f o g b"), ("(Mist:1.3), a", "(f o g:1.3), a")):
        assert torch.equal(model.encode(with_it), model.encode(without))


@pytest.mark.parametrize("prompt", ["a <cat-toy> on grass", "<cat-toy>", "fog and <cat-toy>, sea"])
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_a_prompt_means_what_it_means_to_diffusers(small, tmp_path, prompt, count):
    path = write(tmp_path / "e.safetensors", **{"<cat-toy>": rows(count)})
    pipeline = StableDiffusionPipeline.from_pretrained(small, safety_checker=None)
    pipeline.load_textual_inversion(str(path))
    wanted, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
    model = load_model(str(small), device="cpu", embedding=[f"{path}:<cat-toy>"])
    got = model.encode(prompt)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    bare = load_model(str(small), device="cpu").encode(prompt)
    assert got.shape != bare.shape or (got - bare).abs().max() > 0.01


@torch.inference_mode()
def test_xl_is_taught_through_both_encoders_as_diffusers_does(xl, tmp_path):
    path = write(tmp_path / "toy.safetensors", clip_l=rows(2), clip_g=rows(2, 24))
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl)
    ends = (("clip_l", "tokenizer", "text_encoder"), ("clip_g", "tokenizer_2", "text_encoder_2"))
    for name, tokenizer, encoder in ends:
        pipeline.load_textual_inversion(
            {"toy": rows(2, 16 if name == "clip_l" else 24)},
            token="toy",
            text_encoder=getattr(pipeline, encoder),
            tokenizer=getattr(pipeline, tokenizer),
        )
    wanted, _, whole, _ = pipeline.encode_prompt(
        "a toy cat", device="cpu", do_classifier_free_guidance=False
    )
    got = load_model(str(xl), device="cpu", embedding=[str(path)]).encode("a toy cat")
    torch.testing.assert_close(got[0], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[1], whole, rtol=1e-4, atol=1e-4)


def test_where_the_end_is_the_highest_token_no_row_is_taken_for_it(xl, tmp_path):
    """Configs from before transformers 4.31; the web UI hides the rows from that search, too."""
    import shutil

    old = shutil.copytree(xl, tmp_path / "old")
    config = old / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 2}))
    path = write(tmp_path / "toy.safetensors", clip_l=rows(2), clip_g=rows(2, 24))
    whole = [
        load_model(str(m), device="cpu", embedding=[str(path)]).encode("a toy")[1]
        for m in (old, xl)
    ]
    assert torch.equal(*whole)


def broken(path):
    path.write_bytes(write(path, emb_params=rows(2)).read_bytes()[:-4])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda p: write(p, emb_params=rows(2, 8)), "`emb_params` is 8 wide, and text_encoder"),
        (
            lambda p: write(p, clip_l=rows(2), clip_g=rows(2, 24)),
            r"is for Stable Diffusion XL, and `.*` is not$",
        ),
        (lambda p: write(p, a=rows(2), b=rows(2)), "is no embedding: it holds `a`"),
        (lambda p: write(p, a=rows(2)[None]), "is no embedding"),
        (lambda p: write(p, a=rows(2)[:0]), "holds no rows"),
        (lambda p: write(p, a=rows(2) / 0), "not finite"),
        (lambda p: write(p, a=rows(2).int()), "`a` holds int32, where an embedding is floating"),
        (lambda p: write(p, a=rows(76)), "is 76 tokens and a chunk has room for 75"),
        (broken, "truncated"),
        (lambda p: p.write_bytes(b"\x80\x02hello"), "is a pickle"),
        (lambda p: p.write_bytes(b"hello"), "is broken"),
        (lambda p: p.mkdir(), "is no file"),
        (lambda p: None, "is not there"),
    ],
)
def test_what_cannot_be_taught_is_refused_by_the_files_name(small, tmp_path, make, complaint):
    path = tmp_path / "e.safetensors"
    make(path)
    with pytest.raises(ModelError, match=complaint) as caught:
        load_model(str(small), device="cpu", embedding=[str(path)])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_by_name_is_not_opened(small, tmp_path):
    path = write(tmp_path / "e.pt", a=rows(1))
    with pytest.raises(ModelError, match=r"e\.pt` is a pickle"):
        load_model(str(small), device="cpu", embedding=[str(path)])


def test_one_for_one_encoder_does_not_teach_xl(xl, tmp_path):
    path = write(tmp_path / "e.safetensors", emb_params=rows(1))
    with pytest.raises(ModelError, match=r"is not for Stable Diffusion XL, and `.*` is$"):
        load_model(str(xl), device="cpu", embedding=[str(path)])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/a/toy.safetensors", ("/a/toy.safetensors", "toy")),
        ("/a/toy.safetensors:<cat-toy>", ("/a/toy.safetensors", "<cat-toy>")),
        (r"C:\a\toy.safetensors", (r"C:\a\toy.safetensors", "toy")),
        ("a:b.safetensors", ("a:b.safetensors", "a:b")),
        ("toy.pt", ("toy.pt", "toy.pt")),
        ("toy.safetensors:", ("toy.safetensors:", "toy.safetensors:")),
    ],
)
def test_a_token_is_what_stands_behind_the_last_colon_or_the_files_name(text, wanted):
    assert named(text) == wanted


@pytest.mark.parametrize(
    "value", [7, [7], [""], ["a"] * 65, ["a/toy.safetensors", "b/Toy.safetensors"], ["a:x", "b:x"]]
)
def test_an_embedding_that_can_be_none_is_refused_as_a_key(value):
    with pytest.raises(JobError, match="embedding"):
        read_job({"prompt": "fog", "embedding": value})


def test_two_for_one_word_are_named_as_they_were_given():
    with pytest.raises(JobError, match=r"of its own \(PATH:TOKEN\), not `a:x, b:X`$"):
        read_job({"prompt": "fog", "embedding": ("a:x", "b:X")})


def test_a_worker_that_holds_the_model_alone_is_not_asked(small, tmp_path):
    path = write(tmp_path / "e.safetensors", a=rows(1))
    source = find(str(small))
    wanted = dressed(source, Job(prompt="fog", embedding=str(path)).weights)
    how = {"wanted": ("cpu", "auto"), "given": ("cpu", "fp32"), "idle": 1}
    held = holding(source, stamp(source), circumstances(), **how)
    assert held.unlike(source, "cpu", "auto") == ""
    assert "embeddings" in held.unlike(wanted, "cpu", "auto")


def test_a_job_with_an_embedding_is_not_painted_by_a_model_without(small):
    model = load_model(str(small), device="cpu")
    with pytest.raises(JobError, match="not loaded with"):
        list(generate(model, Job(prompt="fog", embedding="some.safetensors")))


def test_a_picture_painted_with_one_is_painted_again_from_itself(
    small, tmp_path, monkeypatch, sdfast
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "toy.safetensors", emb_params=rows(2))
    asked = ("a <toy>", "-x", "TOY", "-s", "2", "--seed", "1", "-m", str(small), "-q")
    for name, more in {"bare": (), "both": ("--embedding", "toy.safetensors:<toy>")}.items():
        assert sdfast("gen", *asked, *more, "-o", f"{name}.png")[0] == 0
    again = ("--from", "both.png", "-m", str(small))
    assert sdfast("gen", *again, "-o", "again.png", "-q")[0] == 0
    bare, both, more = ((tmp_path / f"{n}.png").read_bytes() for n in ("bare", "both", "again"))
    assert bare != both == more
    code, out, _ = sdfast("gen", *again, "--dry-run")
    assert (code, json.loads(out)["embedding"]) == (0, [f"{tmp_path}/toy.safetensors:<toy>"])
    code, out, _ = sdfast("info", "both.png")
    assert f"  embedding {tmp_path}/toy.safetensors:<toy>\n" in out


def test_gen_and_batch_tell_of_an_embedding_that_no_prompt_says(
    small, tmp_path, monkeypatch, sdfast
):
    toy, gone = (write(tmp_path / f"{n}.safetensors", emb_params=rows(1)) for n in ("toy", "gone"))
    asked = ("-s", "2", "-m", str(small), "--embedding", str(toy))
    both = (*asked, "--embedding", f"{gone}:(o)")
    monkeypatch.chdir(tmp_path)
    code, _, err = sdfast("gen", "a toy", "fog", *both)
    assert code == 0
    note = (
        "not used, as no prompt has the word: embedding `(o)`; a backslash goes before each bracket"
    )
    assert [line for line in err.splitlines() if "not used" in line] == [f"note: {note}"]
    assert "not used" not in sdfast("gen", "fog", "-x", "toy", *asked)[2]
    lines = [{"prompt": p, "embedding": [str(toy), f"{gone}:(o)"]} for p in ("a toy", "fog")]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, _, err = sdfast("batch", "p.jsonl", *asked[:4], "-o", "out/")
    assert code == 0
    assert [line for line in err.splitlines() if "not used" in line] == [f"note: p.jsonl:1: {note}"]


def test_a_line_of_a_batch_names_its_own(small, tmp_path, sdfast):
    path = write(tmp_path / "toy.safetensors", emb_params=rows(2))
    plain = {"prompt": "a toy", "seed": 1, "steps": 2, "model": str(small)}
    lines = [plain, plain | {"embedding": [str(path)]}, plain | {"embedding": "gone.safetensors"}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    code, _, err = sdfast("batch", str(tmp_path / "jobs.jsonl"), "-o", f"{out}/{{i}}.png")
    assert code == 5
    assert "gone.safetensors` is not there" in err
    one, two = (path.read_bytes() for path in sorted(out.glob("*.png")))
    assert one != two


def test_gen_refuses_a_missing_one_with_three_and_one_line(small, tmp_path, sdfast):
    code, out, err = sdfast(
        "gen", "fog", "-m", str(small), "--embedding", f"{tmp_path}/e.safetensors"
    )
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == f"error: `{tmp_path}/e.safetensors` is not there"


def test_the_web_uis_embeddings_that_a_picture_names_are_told(tmp_path, monkeypatch):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters",
        "fog\nSteps: 2, Sampler: Euler, Schedule type: Karras, CFG scale: 2, Seed: 1, "
        'Size: 64x64, TI hashes: "EasyNegative: c74b4e810b03, bad-hands-5: aa7651be154c"',
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
    from sdfast.config import load_config
    from sdfast.jobs import read_source, resolve

    asked = resolve({}, None, read_source(str(tmp_path / "a.png"), ()), load_config())
    assert "TI hashes (EasyNegative, bad-hands-5)" in asked.remarks[0]
