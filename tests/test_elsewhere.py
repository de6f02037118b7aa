"""Pictures of ComfyUI and InvokeAI: what sdfast knows of their recipes, and what it names."""

import copy
import json
import time
import tracemalloc
from contextlib import suppress

import pytest
from foreign import COMFY, INVOKE, OLD
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdfast.comfy import read_comfy
from sdfast.errors import MetadataError
from sdfast.invoke import read_invoke, read_old_invoke
from sdfast.job import read_job
from sdfast.recipes import read_recipe
from sdfast.sampler_names import COMFY as COMFYS_NAMES

MODEL = {"Model": "v1-5-pruned-emaonly.safetensors"}


def a_png(folder, **chunks):
    info = PngInfo()
    for name, said in chunks.items():
        info.add_text(name, json.dumps(said))
    Image.new("RGB", (64, 64)).save(folder / "theirs.png", pnginfo=info)
    return folder / "theirs.png"


def comfy(**inputs):
    """The workflow with inputs of its sampler changed."""
    nodes = copy.deepcopy(COMFY)
    nodes["3"]["inputs"] |= inputs
    return nodes


def read(nodes):
    return read_comfy(json.dumps(nodes))


def test_comfys_default_workflow_is_taken_over_whole(tmp_path):
    recipe = read_recipe(a_png(tmp_path, prompt=COMFY, workflow={"nodes": []}))
    assert recipe.program == "ComfyUI"
    assert recipe.record == {
        "prompt": r"a (red:1.2) \[fox\]",
        "negative": "bad hands",
        "seed": 8566257,
        "steps": 20,
        "guidance": 8,
        "size": "512x768",
        "sampler": "DPM++ 2M Karras",
    }
    assert recipe.unknown == MODEL
    assert read_job(recipe.record).sampler.spacing == "karras"


def test_invokes_square_brackets_are_plain_letters():
    record, _ = read_invoke(json.dumps({"positive_prompt": "a [cat:dog:0.5]", "steps": 4}))
    assert record["prompt"] == r"a \[cat:dog:0.5\]"


def test_comfys_lcm_is_ours():
    record, unknown = read(comfy(sampler_name="lcm", scheduler="sgm_uniform", steps=4, cfg=1))
    assert (unknown, read_job(record).sampler.solver) == (MODEL, "lcm")
    assert read_job(record).sampler.spacing == "uniform"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ddim", "euler"),  # there it is Euler's walk
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
        ("dpmpp_3m_sde_gpu", "dpmpp_3m_sde"),
        ("dpmpp_sde_gpu", "dpmpp_sde"),
    ],
)
def test_comfys_other_names_for_a_walk_are_known(theirs, ours):
    one, other = (read(comfy(sampler_name=name, scheduler="karras")) for name in (theirs, ours))
    assert one == other
    assert one[1] == MODEL


@pytest.mark.parametrize("scheduler", ["beta", "simple", "normal", "karras"])
@pytest.mark.parametrize("name", sorted(COMFYS_NAMES))
def test_comfys_schedules_are_ours(name, scheduler):
    record, unknown = read(comfy(sampler_name=name, scheduler=scheduler))
    assert (unknown, read_job(record).sampler.spacing) == (MODEL, scheduler)


def test_what_lies_on_comfys_way_is_followed_or_named():
    nodes = comfy(model=["10", 0], positive=["12", 0], negative=["12", 1], seed=["14", 0])
    for name in "67":
        nodes[name]["inputs"]["clip"] = ["11", 0]
    nodes["6"]["inputs"]["text"] = ["15", 0]
    nodes |= {
        "10": {
            "class_type": "LoraLoader",
            "inputs": {"lora_name": "ink", "strength_model": 0.8, "model": ["4", 0]},
        },
        "11": {
            "class_type": "CLIPSetLastLayer",
            "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]},
        },
        "12": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {"positive": ["6", 0], "negative": ["7", 0], "strength": 0.5},
        },
        "14": {"class_type": "PrimitiveInt", "inputs": {"value": 77}},
        "15": {"class_type": "PrimitiveString", "inputs": {"value": "a heron"}},
    }
    record, unknown = read(nodes)
    assert (record["prompt"], record["negative"]) == ("a heron", "bad hands")
    assert (record["seed"], record["clip_skip"]) == (77, 2)
    lora = json.dumps({"lora_name": "ink", "strength_model": 0.8})
    assert unknown == MODEL | {"LoraLoader": lora, "ControlNetApplyAdvanced": '{"strength": 0.5}'}
    nodes["10"]["inputs"]["model"] = ["16", 0]
    other = {"lora_name": "wash", "strength_model": 0.2}
    nodes["16"] = {"class_type": "LoraLoader", "inputs": {**other, "model": ["4", 0]}}
    _, unknown = read(nodes)
    assert (unknown["LoraLoader"], unknown["LoraLoader 2"]) == (lora, json.dumps(other))


@pytest.mark.parametrize(
    ("inputs", "near"),
    [
        ({"sampler_name": "lms"}, "LMS Karras"),
        ({"sampler_name": "dpm_2_ancestral"}, "dpm_2_ancestral_karras"),
        ({"scheduler": "kl_optimal"}, "dpmpp_2m"),
        ({"sampler_name": "uni_pc", "scheduler": "normal"}, "uni_pc_normal"),
        ({"sampler_name": "ddim", "scheduler": "ddim_uniform"}, "DDIM"),
        ({"sampler_name": "gradient_estimation"}, None),
    ],
)
def test_a_sampler_of_comfys_that_walks_otherwise_is_named_and_the_nearest_taken(inputs, near):
    record, unknown = read(comfy(**inputs))
    assert list(unknown) == [*MODEL, "Sampler"]
    assert record.get("sampler") == near


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"denoise": 0.5}, {"denoise": "0.5"}),
        ({"seed": 2**64}, {"seed": str(2**64)}),
        ({"steps": "many"}, {"steps": "many"}),
    ],
)
def test_what_comfy_says_and_we_cannot_do_is_named(inputs, named):
    record, unknown = read(comfy(**inputs))
    assert unknown == MODEL | named
    for key in named:
        assert key.lower() not in record


def test_of_two_samplers_the_one_that_begins_is_read_and_the_other_named():
    second = comfy(latent_image=["3", 0], seed=9)["3"]
    record, unknown = read({"2": second, **COMFY})
    assert record["seed"] == 8566257
    assert "KSampler" in unknown


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


CUSTOM = {key: value for key, value in COMFY.items() if key not in "3"} | {
    "20": node(
        "SamplerCustomAdvanced",
        noise=["21", 0],
        guider=["22", 0],
        sampler=["23", 0],
        sigmas=["24", 0],
        latent_image=["5", 0],
    ),
    "21": node("RandomNoise", noise_seed=8566257),
    "22": node("CFGGuider", cfg=8, model=["4", 0], positive=["6", 0], negative=["7", 0]),
    "23": node("KSamplerSelect", sampler_name="dpmpp_2m"),
    "24": node("BasicScheduler", scheduler="karras", steps=20, denoise=1, model=["4", 0]),
}


def test_the_parts_of_a_custom_sampler_say_what_one_node_would():
    assert read(CUSTOM) == read(COMFY)
    together = copy.deepcopy(CUSTOM)
    together["20"] = node(
        "SamplerCustom",
        add_noise=True,
        noise_seed=8566257,
        cfg=8,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        sampler=["23", 0],
        sigmas=["24", 0],
        latent_image=["5", 0],
    )
    del together["21"], together["22"]
    assert read(together) == read(COMFY)


def test_a_guider_without_a_scale_does_not_guide():
    basic = node("BasicGuider", model=["4", 0], conditioning=["6", 0])
    record, unknown = read({**CUSTOM, "22": basic})
    assert (record["guidance"], record["prompt"]) == (1, r"a (red:1.2) \[fox\]")
    assert (record["negative"], list(unknown)) == ("", ["Model", "CLIPTextEncode"])


@pytest.mark.parametrize(
    ("part", "changed", "walk", "named"),
    [
        ("24", node("KarrasScheduler", steps=20, sigma_max=14.614642, rho=7.0), "karras", ()),
        ("24", node("KarrasScheduler", steps=20, sigma_max=9.5, rho=7.0), "karras", ("sigma_max",)),
        ("24", node("ExponentialScheduler", steps=20, sigma_min=0.0291675), "exponential", ()),
        ("24", node("AlignYourStepsScheduler", steps=10, model_type="SD1"), "ays", ("Sampler",)),
        ("24", node("BetaSamplingScheduler", steps=10, alpha=0.6, beta=0.6), "beta", ()),
        (
            "24",
            node("BetaSamplingScheduler", steps=10, alpha=0.5, beta=0.7),
            "beta",
            ("alpha", "beta"),
        ),
        ("23", node("SamplerDPMPP_SDE", eta=1.0, s_noise=1.0, r=0.3), "karras", ("r",)),
        (
            "22",
            node("PerpNegGuider", cfg=8, positive=["6", 0], negative=["7", 0], neg_scale=2),
            "karras",
            ("PerpNegGuider",),
        ),
        ("23", node("SamplerDPMPP_2M_SDE", eta=1.0, s_noise=1.0), "karras", ()),
        ("23", node("SamplerEulerAncestral", eta=0.5, s_noise=1.0), "karras", ("eta",)),
        ("23", node("SamplerLMS", order=3), "karras", ("order", "Sampler")),
        ("21", node("DisableNoise"), "karras", ("add_noise",)),
    ],
)
def test_nodes_that_are_samplers_and_schedules_are_followed_or_named(part, changed, walk, named):
    record, unknown = read({**CUSTOM, part: changed})
    assert read_job(record).sampler.spacing == walk
    assert {*unknown} == {"Model", *named}


@pytest.mark.parametrize(("kind", "weights"), [("midpoint", "reference"), ("heun", "heun")])
def test_a_node_of_the_sde_says_which_weights(kind, weights):
    changed = node("SamplerDPMPP_2M_SDE", solver_type=kind, eta=1.0, s_noise=1.0)
    record, unknown = read({**CUSTOM, "23": changed})
    assert read_job(record).sampler.weights == weights
    assert [*unknown] == ["Model"]


@pytest.mark.parametrize(
    ("nodes", "prompt"),
    [
        ({"30": node("ShowText|pysssss", text=["9", 0], text_0="the words")}, "the words"),
        (
            {"30": node("JoinStringMulti", **{f"string_{k}": str(k) for k in range(1, 13)})},
            "123456789101112",
        ),
        ({"30": node("CR Text Concatenate", text1="a", text2="b", separator="; ")}, "a; b"),
        ({"30": node("StringConcatenate", string_a="a", string_b="", delimiter=", ")}, "a, "),
        ({"30": node("PrimitiveStringMultiline", value="a heron")}, "a heron"),
        ({"30": node("ImpactWildcardProcessor", wildcard_text="__x__", populated_text="a")}, "a"),
        ({"30": node("StringConcatenate", string_a="a", string_b="b", delimiter=", ")}, "a, b"),
        (
            {
                "30": node("Text Concatenate", text_a=["31", 0], text_b="", text_c="c"),
                "31": node("CR Text", text="a [b]"),
            },
            r"a \[b\]c",
        ),
        ({"30": node("Reroute", text=["31", 0]), "31": node("Text", text="a")}, "a"),
    ],
)
def test_texts_that_other_nodes_make_are_read(nodes, prompt):
    said = copy.deepcopy(COMFY)
    said["6"]["inputs"]["text"] = ["30", 0]
    record, unknown = read(said | nodes)
    assert (record["prompt"], unknown) == (prompt, MODEL)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Florence2", {"image": ["8", 0]}),
        ("StringReplace", {"string": "a red cat", "find": "red", "replace": "blue"}),
        ("CaseConverter", {"string": "a red cat", "mode": "UPPERCASE"}),
        ("StringFunction|pysssss", {"action": "append", "text_a": "a", "text_b": "b"}),
        ("CR Text Input Switch", {"Input": 2, "text1": "a cat", "text2": "a dog"}),
        ("OllamaGenerateV2", {"prompt": "Describe a cat", "model": "x"}),
        ("DPRandomGenerator", {"text": "a {red|blue} cat", "seed": 1}),
    ],
)
def test_a_text_that_cannot_be_read_is_named_by_what_makes_it(kind, inputs):
    said = copy.deepcopy(COMFY)
    said["6"]["inputs"]["text"] = ["30", 0]
    record, unknown = read(said | {"30": node(kind, **inputs)})
    assert "prompt" not in record
    assert unknown["prompt"] == f"made by {kind}"
    assert unknown.keys() == {*MODEL, "prompt", kind}


def test_parts_of_a_sampler_that_lie_behind_others_are_found_and_the_others_named():
    split = {"30": node("SplitSigmas", step=10, sigmas=["24", 0])}
    nodes = copy.deepcopy(CUSTOM) | split
    nodes["20"]["inputs"]["sigmas"] = ["30", 0]
    record, unknown = read(nodes)
    assert (record["steps"], read_job(record).sampler.spacing) == (20, "karras")
    assert unknown == MODEL | {"SplitSigmas": '{"step": 10}'}
    _, unknown = read({**CUSTOM, "23": node("SamplerER_SDE", max_stage=3)})
    assert unknown["Sampler"] == "SamplerER_SDE karras"


def test_a_sampler_without_a_name_has_none():
    assert "Sampler" not in read(comfy(sampler_name=None, scheduler=None))[1]
    assert read(comfy(sampler_name=None))[1]["Sampler"] == "karras"


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": {"a": 1}},
        {"class_type": None, "inputs": {"a": 1}},
        {"class_type": ["KSampler"], "inputs": {"a": 1}},
        {"class_type": "Odd", "inputs": [1]},
    ],
)
def test_what_has_no_class_or_no_inputs_is_no_node(other):
    assert read({"0": other, **COMFY}) == read(COMFY)


def test_a_number_of_a_node_that_computes_is_none():
    computed = {"30": node("SimpleMath+", a=["31", 0], b=2), "31": node("Int", value=4)}
    record, _ = read(comfy(steps=["30", 0]) | computed)
    assert "steps" not in record
    assert read(comfy(steps=["31", 0]) | computed)[0]["steps"] == 4
    computed["32"] = node("Round", a=["30", 0])
    assert "steps" not in read(comfy(steps=["32", 0]) | computed)[1]


def test_a_text_that_doubles_or_is_made_of_itself_ends():
    said = copy.deepcopy(COMFY)
    said["6"]["inputs"]["text"] = ["100", 0]
    doubling = {
        str(k): node("Join", text_a=[str(k + 1), 0], text_b=[str(k + 1), 0])
        for k in range(100, 160)
    }
    for last in (node("Text", text="ab"), node("Text", text=["100", 0])):
        assert "prompt" not in read(said | doubling | {"160": last})[0]


def test_many_texts_that_are_long_take_no_more_room_than_one():
    said = copy.deepcopy(COMFY)
    said["6"]["inputs"]["text"] = ["100", 0]
    many = {f"text_{k}": [str(k + 200), 0] for k in range(1, 900)}
    joins = {key: node("Join", text_a=["99", 0], text_b="x") for (key, _) in many.values()}
    long = {"99": node("Text", text="a" * 2**20)}
    tracemalloc.start()
    record, _ = read(said | {"100": node("Join", **many)} | joins | long)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "prompt" not in record
    assert peak < 20 * 2**20


def test_a_chain_of_nodes_that_is_long_ends():
    said = copy.deepcopy(COMFY)
    said["6"]["inputs"]["text"] = ["100", 0]
    chain = {str(k): node("Reroute", text=[str(k + 1), 0]) for k in range(100, 3000)}
    assert "prompt" not in read(said | chain)[0]


def test_a_loop_of_links_ends():
    nodes = comfy(positive=["6", 0])
    nodes["6"] = {"class_type": "Round", "inputs": {"conditioning": ["6", 0]}}
    assert "prompt" not in read(nodes)[0]


def test_invokes_recipe_is_taken_over_and_the_rest_named(tmp_path):
    recipe = read_recipe(a_png(tmp_path, invokeai_metadata=INVOKE | {"clip_skip": 1, "vae": "v"}))
    assert recipe.program == "InvokeAI"
    assert recipe.record == {
        "prompt": "landscape",
        "negative": "low quality",
        "size": "768x432",
        "seed": 356120443,
        "guidance": 7.5,
        "steps": 50,
        "sampler": "DPM++ 2M Karras",
        "clip_skip": 2,
    }
    assert list(recipe.unknown) == ["model", "vae"]


@pytest.mark.parametrize(
    ("scheduler", "near"),
    [
        ("dpmpp_2m_sde_k", "dpmpp_2m_sde_karras"),
        ("dpmpp_2m", "dpmpp_2m_normal"),
        ("kdpm_2_a_k", "dpm_2_ancestral_karras"),
        ("unipc", "uni_pc_normal"),
        ("lms", "LMS Normal"),
        ("tcd", None),
    ],
)
def test_a_scheduler_of_invokes_that_walks_otherwise_is_named(scheduler, near):
    record, unknown = read_invoke(json.dumps(INVOKE | {"scheduler": scheduler}))
    assert record.get("sampler") == near
    assert unknown["Sampler"] == scheduler


def test_the_older_form_has_its_negative_prompt_in_brackets():
    record, unknown = read_old_invoke(json.dumps(OLD))
    assert record == {
        "prompt": "a fox at night",
        "negative": "blurry, grey",
        "size": "640x512",
        "seed": 2980747362,
        "guidance": 5,
        "steps": 30,
        "sampler": "DDIM",
    }
    assert unknown == {"perlin": "0.2", "model": "stable-diffusion-1.5"}


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def test_a_conditioning_of_zeros_is_no_negative_prompt():
    nodes = comfy(negative=["9", 0])
    nodes["9"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    record, unknown = read(nodes)
    assert record["prompt"] == r"a (red:1.2) \[fox\]"
    assert record["negative"] == ""
    assert "ConditioningZeroOut" not in unknown


def test_a_walk_that_comfy_breaks_off_is_named():
    assert read(comfy(end_at_step=12))[1]["end_at_step"] == "12"
    assert "end_at_step" not in read(comfy(end_at_step=10000))[1]


@pytest.mark.parametrize("prompt", ["a (red ball)1.3", "a dog++", "bad--, worse", "(a b)+"])
def test_weights_as_invoke_writes_them_are_named(prompt):
    _, unknown = read_invoke(json.dumps(INVOKE | {"positive_prompt": prompt}))
    assert "Prompt weights" in unknown


@pytest.mark.parametrize("prompt", ["a well-made 3-d cat", "C++ code", "a (red:1.3) cat, 2+2"])
def test_a_dash_or_a_plus_within_words_is_no_weight(prompt):
    _, unknown = read_invoke(json.dumps(INVOKE | {"positive_prompt": prompt}))
    assert ("Prompt weights" in unknown) == (prompt == "C++ code")  # which reads as one there, too


@pytest.mark.parametrize("filler", [" ", "[", "[a]", "] "])
def test_a_long_prompt_takes_no_longer_than_its_length(filler):
    image = {"prompt": "a" + filler * (2**19 // len(filler)) + "b", "seed": 1}
    begun = time.process_time()
    read_old_invoke(json.dumps({"image": image}))
    assert time.process_time() - begun < 5


links = st.tuples(st.sampled_from("3456789"), st.integers(0, 2)).map(list)


@given(st.data())
def test_no_recipe_crashes_the_reader_whatever_it_holds(data):
    nodes = copy.deepcopy(COMFY)
    for _ in range(data.draw(st.integers(1, 4))):
        inputs = nodes[data.draw(st.sampled_from("345678"))]["inputs"]
        inputs[data.draw(st.sampled_from(sorted(inputs)))] = data.draw(values | links)
    read_job({"prompt": "any", **read(nodes)[0]})
    flat = {key: data.draw(values) for key in INVOKE if data.draw(st.booleans())}
    read_job({"prompt": "any", **read_invoke(json.dumps(flat))[0]})
    for text in (json.dumps(data.draw(values)), data.draw(st.text(max_size=9))):
        for reader in (read_comfy, read_invoke, read_old_invoke):
            with suppress(MetadataError):
                reader(text)
