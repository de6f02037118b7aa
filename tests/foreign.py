"""What other programs write of a picture into it."""

COMFY = {  # the default workflow, as ComfyUI's script_examples/basic_api_example.py writes it
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "cfg": 8,
            "denoise": 1,
            "latent_image": ["5", 0],
            "model": ["4", 0],
            "negative": ["7", 0],
            "positive": ["6", 0],
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "seed": 8566257,
            "steps": 20,
        },
    },
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "v1-5-pruned-emaonly.safetensors"},
    },
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"batch_size": 1, "height": 768, "width": 512},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": ["4", 1], "text": "a (red:1.2) [fox]"},
    },
    "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "bad hands"}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}
INVOKE = {  # as InvokeAI 3.3 writes it
    "app_version": "3.3.0post3",
    "generation_mode": "txt2img",
    "positive_prompt": "landscape",
    "negative_prompt": "low quality",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "steps": 50,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 0,
    "model": {"model_name": "amixx", "base_model": "sd-1", "model_type": "main"},
    "controlnets": [],
    "loras": [],
}
OLD = {
    "model": "stable diffusion",
    "model_weights": "stable-diffusion-1.5",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.2.4",
    "image": {
        "prompt": [{"prompt": "a fox [blurry] at night [grey]", "weight": 1}],
        "steps": 30,
        "cfg_scale": 5,
        "threshold": 0,
        "perlin": 0.2,
        "height": 512,
        "width": 640,
        "seed": 2980747362,
        "seamless": False,
        "type": "txt2img",
        "postprocessing": None,
        "sampler": "ddim",
        "variations": [],
    },
}
