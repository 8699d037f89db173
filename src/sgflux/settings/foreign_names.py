"""What the flags and settings of other trainers are called here.

The names are those of diffusers' and transformers' example scripts, kohya's sd-scripts, ai-toolkit
and plain Python pipelines. Somebody who types one is told sgflux's own, by the command line and by
configuration files alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """What somebody else's setting is here.

    Attributes:
        names: the settings of sgflux that say the same; those that a command has are named.
        note: Further remark, as a clause without a full stop; alone it answers a
            setting that sgflux does not have at all.
    """

    names: tuple[str, ...] = ()
    note: str = ""


_CURVES = Foreign(note="every run writes metrics.jsonl and TensorBoard files into its folder")
_ONE_OPTIMIZER = Foreign(note="the optimizer is always AdamW, set by lr and weight_decay")
_ONE_SCHEDULE = Foreign(
    ("lr_floor", "warmup_steps"), "the schedule is always a warm-up and then a cosine"
)
_PRECISION = Foreign(("dtype",), "fp32 or bf16")
_HUB = Foreign(note="a finished adapter is published by 'sgflux export --push-to-hub'")
_PAIRED_TEXT = Foreign(("prompt_mix",), "texts come from the rows of train_jsonl and their graphs")
_DATA = Foreign(("train_jsonl", "images_dir"), "a JSONL file of examples and their pictures")
_ONE_WEIGHT = Foreign(note="text encoders stay frozen; only LoRA and graph encoder are trained")
_LEVELS = Foreign(("sigma_scheme",), "the distribution of noise levels that is trained on")
_CACHE = Foreign(("latent_cache_dir",), "a folder that keeps latents and text features")
_AUTOMATIC = Foreign(note="there is nothing to set: data are encoded once and kept")
_FEWER_PICTURES = Foreign(("sample_steps",), "one picture is drawn when the adapter is finished")

FOREIGN_NAMES: dict[str, Foreign] = {
    # -- model -----------------------------------------------------------------------------------
    "pretrained_model_name_or_path": Foreign(("model_id",)),
    "pretrained_model_name": Foreign(("model_id",)),
    "model_name_or_path": Foreign(("model_id",)),
    "name_or_path": Foreign(("model_id",)),
    "base_model": Foreign(("model_id",)),
    "model": Foreign(("model_id",)),
    "model_path": Foreign(("model_id",)),
    "pretrained_vae_model_name_or_path": Foreign(("autoencoder",)),
    "vae": Foreign(("autoencoder",)),
    "ae": Foreign(("autoencoder",)),
    "clip_l": Foreign(("text_encoder",)),
    "t5xxl": Foreign(("text_encoder_2",)),
    "variant": Foreign(("dtype",), "which files are read follows from what is there"),
    "cache_dir": Foreign(note="downloads go where HF_HOME says"),
    "mixed_precision": _PRECISION,
    "precision": _PRECISION,
    "torch_dtype": _PRECISION,
    "weight_dtype": _PRECISION,
    "fp16": Foreign(("dtype",), "fp32 or bf16; there is no fp16"),
    "bf16": Foreign(("dtype",), "--dtype bf16, which is what training uses anyway"),
    "full_bf16": _PRECISION,
    "max_token_length": Foreign(("max_sequence_length",)),
    "t5xxl_max_token_length": Foreign(("max_sequence_length",)),
    "fp8_base": Foreign(("quantize",), "float8 or int8"),
    "fp8": Foreign(("quantize",), "float8 or int8"),
    "load_in_8bit": Foreign(("quantize",), "int8"),
    "load_in_4bit": Foreign(("quantize",), "nf4"),
    "bnb_quantization_config_path": Foreign(("quantize",)),
    "low_vram": Foreign(("offload_blocks", "quantize"), "one of the two"),
    "blocks_to_swap": Foreign(("offload_blocks",)),
    "enable_model_cpu_offload": Foreign(("offload_blocks", "encoder_device"), "each of them helps"),
    "offload": Foreign(("offload_blocks",)),
    "lowram": Foreign(("encoder_device",), "--encoder-device cpu"),
    "torch_compile": Foreign(("compile",)),
    "dynamo_backend": Foreign(("compile",)),
    "allow_tf32": Foreign(note="torch's own setting of matrix precision holds"),
    "enable_xformers_memory_efficient_attention": Foreign(
        note="torch's own fused attention is always used"
    ),
    "xformers": Foreign(note="torch's own fused attention is always used"),
    "sdpa": Foreign(note="torch's own fused attention is always used"),
    # -- adapter ---------------------------------------------------------------------------------
    "rank": Foreign(("lora_rank",)),
    "network_dim": Foreign(("lora_rank",)),
    "lora_r": Foreign(("lora_rank",)),
    "r": Foreign(("lora_rank",)),
    "linear": Foreign(("lora_rank",)),
    "alpha": Foreign(("lora_alpha",)),
    "network_alpha": Foreign(("lora_alpha",)),
    "linear_alpha": Foreign(("lora_alpha",)),
    "lora_layers": Foreign(("lora_targets", "block_start", "block_end")),
    "target_modules": Foreign(("lora_targets",)),
    "network_module": Foreign(note="the adapter is always LoRA with a graph encoder"),
    "network_weights": Foreign(("init_from",)),
    "lora_weights": Foreign(("adapter", "init_from")),
    "lora_path": Foreign(("adapter", "init_from")),
    "lora": Foreign(("adapter", "init_from")),
    "network_train_unet_only": _ONE_WEIGHT,
    "train_text_encoder": _ONE_WEIGHT,
    "text_encoder_lr": _ONE_WEIGHT,
    "unet_lr": Foreign(("lr",)),
    "use_ema": Foreign(("ema_decay",)),
    "ema": Foreign(("ema_decay",)),
    # -- data ------------------------------------------------------------------------------------
    "train_data_dir": _DATA,
    "instance_data_dir": _DATA,
    "dataset_name": _DATA,
    "dataset_config": _DATA,
    "dataset": _DATA,
    "data_dir": _DATA,
    "train_file": Foreign(("train_jsonl",)),
    "validation_file": Foreign(("val_jsonl",)),
    "test_file": Foreign(("data",)),
    "image_dir": Foreign(("images_dir",)),
    "image_folder": Foreign(("images_dir",)),
    "image_column": _PAIRED_TEXT,
    "caption_column": _PAIRED_TEXT,
    "instance_prompt": _PAIRED_TEXT,
    "caption_dropout_rate": Foreign(("prompt_mix.empty", "null_graph_probability")),
    "proportion_empty_prompts": Foreign(("prompt_mix.empty",)),
    "resolution": Foreign(("height", "width")),
    "size": Foreign(("height", "width")),
    "image_size": Foreign(("height", "width")),
    "enable_bucket": Foreign(("aspect_buckets",)),
    "aspect_ratio_bucketing": Foreign(("aspect_buckets",)),
    "aspect_ratio_buckets": Foreign(("aspect_buckets",)),
    "center_crop": Foreign(("crop",), "--crop center"),
    "random_crop": Foreign(("crop",), "center or union; no crop is random, so that boxes hold"),
    "random_flip": Foreign(note="'sgflux data vg --mirror' writes mirrored examples, words too"),
    "flip_aug": Foreign(note="'sgflux data vg --mirror' writes mirrored examples, words too"),
    "cache_latents": _CACHE,
    "cache_latents_to_disk": _CACHE,
    "cache_text_encoder_outputs": _CACHE,
    "cache_text_encoder_outputs_to_disk": _CACHE,
    "dataloader_num_workers": _AUTOMATIC,
    "max_data_loader_n_workers": _AUTOMATIC,
    "num_workers": _AUTOMATIC,
    # -- optimization ----------------------------------------------------------------------------
    "learning_rate": Foreign(("lr", "muon_lr")),
    "train_batch_size": Foreign(("batch_size",)),
    "per_device_train_batch_size": Foreign(("batch_size",)),
    "per_gpu_train_batch_size": Foreign(("batch_size",)),
    "eval_batch_size": Foreign(("batch_size",)),
    "bs": Foreign(("batch_size",)),
    "gradient_accumulation": Foreign(("gradient_accumulation_steps",)),
    "grad_accum": Foreign(("gradient_accumulation_steps",)),
    "max_train_steps": Foreign(("max_steps", "steps")),
    "num_train_steps": Foreign(("max_steps", "steps")),
    "train_steps": Foreign(("max_steps", "steps")),
    "num_steps": Foreign(("max_steps", "steps")),
    "steps": Foreign(("max_steps",)),
    "num_train_epochs": Foreign(("epochs",)),
    "max_train_epochs": Foreign(("epochs",)),
    "num_epochs": Foreign(("epochs",)),
    "lr_scheduler": _ONE_SCHEDULE,
    "lr_scheduler_type": _ONE_SCHEDULE,
    "lr_num_cycles": _ONE_SCHEDULE,
    "lr_power": _ONE_SCHEDULE,
    "lr_warmup_steps": Foreign(("warmup_steps",)),
    "warmup_ratio": Foreign(("warmup_steps",), "a number of steps"),
    "scale_lr": Foreign(("lr",), "it is taken as it is, whatever the batch is"),
    "adam_weight_decay": Foreign(("weight_decay",)),
    "adam_beta1": _ONE_OPTIMIZER,
    "adam_beta2": _ONE_OPTIMIZER,
    "adam_epsilon": _ONE_OPTIMIZER,
    "use_8bit_adam": _ONE_OPTIMIZER,
    "optimizer": _ONE_OPTIMIZER,
    "optimizer_type": _ONE_OPTIMIZER,
    "optim": _ONE_OPTIMIZER,
    "clip_grad_norm": Foreign(("max_grad_norm",)),
    "gradient_clipping": Foreign(("max_grad_norm",)),
    "weighting_scheme": _LEVELS,
    "timestep_sampling": _LEVELS,
    "timestep_type": _LEVELS,
    "discrete_flow_shift": Foreign(("sigma_shift",)),
    "min_timestep": Foreign(("t_min",), "a sigma between 0 and 1"),
    "max_timestep": Foreign(("t_max",), "a sigma between 0 and 1"),
    "prior_loss_weight": Foreign(("lambda_anchor",), "it keeps the adapter near its base"),
    "with_prior_preservation": Foreign(("lambda_anchor",), "it keeps the adapter near its base"),
    # -- output ----------------------------------------------------------------------------------
    "report_to": _CURVES,
    "log_with": _CURVES,
    "logging_dir": _CURVES,
    "wandb_project": _CURVES,
    "tracker_name": _CURVES,
    "tracker_project_name": _CURVES,
    "logging_steps": Foreign(("log_every",)),
    "log_interval": Foreign(("log_every",)),
    "checkpointing_steps": Foreign(("save_every",)),
    "save_steps": Foreign(("save_every",)),
    "save_every_n_steps": Foreign(("save_every",)),
    "save_interval": Foreign(("save_every",)),
    "save_every_n_epochs": Foreign(("save_every",), "a number of steps"),
    "checkpoints_total_limit": Foreign(("keep_checkpoints",)),
    "save_total_limit": Foreign(("keep_checkpoints",)),
    "max_step_saves_to_keep": Foreign(("keep_checkpoints",)),
    "save_last_n_steps": Foreign(("keep_checkpoints",)),
    "resume_from_checkpoint": Foreign(("resume",), "'auto' goes on from the latest checkpoint"),
    "resume_from": Foreign(("resume",), "'auto' goes on from the latest checkpoint"),
    "save_state": Foreign(("save_every",), "every checkpoint can be resumed from"),
    "validation_steps": Foreign(("val_every",)),
    "validation_epochs": Foreign(("val_every",), "a number of steps"),
    "eval_steps": Foreign(("val_every",)),
    "validation_prompt": _FEWER_PICTURES,
    "num_validation_images": _FEWER_PICTURES,
    "sample_prompts": _FEWER_PICTURES,
    "sample_every": _FEWER_PICTURES,
    "sample_every_n_steps": _FEWER_PICTURES,
    "push_to_hub": _HUB,
    "hub_model_id": _HUB,
    "hub_token": Foreign(note="'hf auth login' or HF_TOKEN says who you are"),
    "output_name": Foreign(("output_dir", "out_dir"), "a folder; the adapter is its final/"),
    "output_dir": Foreign(("out_dir", "output_dir", "out")),
    "out_dir": Foreign(("output_dir", "out_dir", "out")),
    "output": Foreign(("out_dir", "output_dir", "out")),
    "outdir": Foreign(("out_dir", "output_dir", "out")),
    "save_dir": Foreign(("output_dir", "out_dir")),
    # -- sampling and evaluation -----------------------------------------------------------------
    "num_inference_steps": Foreign(("steps",)),
    "sampling_steps": Foreign(("steps",)),
    "guidance_scale": Foreign(("guidance",), "for a guidance-distilled model only"),
    "cfg": Foreign(("guidance",), "for a guidance-distilled model only"),
    "cfg_scale": Foreign(("guidance",), "for a guidance-distilled model only"),
    "true_cfg_scale": Foreign(("graph_scale",), "how far to go towards what the graph says"),
    "negative_prompt": Foreign(note="there are no negative prompts; --compare draws controls"),
    "num_images_per_prompt": Foreign(("num_images",)),
    "num_samples": Foreign(("num_images", "items")),
    "n_samples": Foreign(("num_images", "items")),
    "n_iter": Foreign(("num_images",)),
    "prompts": Foreign(("prompt",)),
    "scene_graph": Foreign(("graph",)),
    "triple": Foreign(("graph",)),
    "triples": Foreign(("graph",)),
    "h": Foreign(("height",)),
    "w": Foreign(("width",)),
    "checkpoint": Foreign(("adapter", "resume")),
    "ckpt": Foreign(("adapter", "resume")),
    "test_jsonl": Foreign(("data",)),
    "dataset_path": Foreign(("data", "train_jsonl")),
    "local_files_only": Foreign(("allow_download",), "nothing is fetched unless it is given"),
    "manual_seed": Foreign(("seed",)),
}
"""Somebody else's name, in lower case with underscores -> what it is here."""


def own_name(name: str, known: Collection[str], *, spell: Callable[[str], str] = repr) -> str:
    """What a setting that sgflux does not have is called here, as the end of a sentence.

    Args:
        name: The name as it was given.
        known: the settings that there are; those in a group as ``group.name``.
        spell: Function that writes the name of a setting of ours.

    Returns:
        A clause like "here it is 'lr'", "did you mean 'batch_size'?" or, where nothing is near, "".
    """
    plain = name.strip().lower().replace("-", "_")
    own = [entry for entry in known if entry.rpartition(".")[2] == plain]
    if own:
        return f"here it is {spell(own[0])}"
    foreign = FOREIGN_NAMES.get(plain)
    if foreign is not None:
        names = [entry for entry in known if _is_one_of(entry, foreign.names)]
        names.sort(key=lambda entry: _rank(entry, foreign.names))
        if names:
            note = f" ({foreign.note})" if foreign.note else ""
            return f"here it is {' and '.join(map(spell, names))}{note}"
        if foreign.note and not foreign.names:
            return foreign.note
    last_parts = {entry.rpartition(".")[2]: entry for entry in reversed(list(known))}
    near = difflib.get_close_matches(plain, [*known, *last_parts], n=1)
    return f"did you mean {spell(last_parts.get(near[0], near[0]))}?" if near else ""


def _is_one_of(entry: str, names: Collection[str]) -> bool:
    return entry in names or entry.rpartition(".")[2] in names


def _rank(entry: str, names: tuple[str, ...]) -> int:
    return names.index(entry if entry in names else entry.rpartition(".")[2])
