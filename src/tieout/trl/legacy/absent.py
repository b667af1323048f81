"""What TRL has by name, and this has not: what to use instead, or why there is nothing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_WHY = {
    "rows lie without padding in any case; give them to SFTTrainer as they are": (
        "pack_dataset", "pack_examples", "truncate_dataset", "ConstantLengthDataset",
    ),
    "rows are never padded; leave data_collator out": (
        "DataCollatorForPreference", "DataCollatorForLanguageModeling", "DPODataCollatorWithPadding",
        "RewardDataCollatorWithPadding", "DataCollatorForUnpairedPreference", "DataCollatorForChatML",
        "DataCollatorForVisionLanguageModeling",
    ),
    "no student learns a teacher's probabilities here; train SFTTrainer on completions that the teacher wrote": (
        "DistillationConfig", "DistillationTrainer", "GKDConfig", "GKDTrainer", "GOLDConfig", "GOLDTrainer",
        "MiniLLMConfig", "MiniLLMTrainer",
    ),
    "tieout.OnlineDPO learns from the policy's own pairs (docs: methods/online_dpo)": (
        "OnlineDPOConfig", "OnlineDPOTrainer", "NashMDConfig", "NashMDTrainer", "XPOConfig", "XPOTrainer",
    ),
    "KTOTrainer learns from the same rows": ("BCOConfig", "BCOTrainer"),
    "RewardTrainer scores whole completions; there is none for their steps": ("PRMConfig", "PRMTrainer"),
    "tieout.RejectionSampling trains on the best of what the policy writes (docs: methods/rejection_sampling)": (
        "IterativeSFTTrainer", "IterativeSFTConfig", "BestOfNSampler",
    ),
    "several turns are an environment of a task here (docs: writing)": (
        "TextEnvironment", "TextHistory", "add_response_schema", "supports_tool_calling",
    ),
    "judges are tieout.rewards.library.judge, and `tieout calibrate` holds them against people (docs: judges)": (
        "BaseJudge", "BaseRankJudge", "BasePairwiseJudge", "BaseBinaryJudge", "HfPairwiseJudge", "OpenAIPairwiseJudge",
        "PairRMJudge", "RandomRankJudge", "RandomPairwiseJudge", "AllTrueJudge", "WinRateCallback",
    ),
    "completions and scores are in output_dir/groups.jsonl": ("LogCompletionsCallback",),
    "report_to names the trackers of transformers": ("WeaveCallback",),
    "the reference stays what it was; GRPO(reference_steps=...) of tieout renews it": ("SyncRefModelCallback",),
    "weights are not averaged": ("BEMACallback", "MergeModelCallback", "MergeConfig"),
    "only the template's author knows where a reply begins and ends: put {% generation %} around it in a template of "
    "your own, and name the file in chat_template_path": ("get_training_chat_template",),
    "text is what is trained here": (
        "prepare_multimodal_messages", "DDPOConfig", "DDPOTrainer", "AlignPropConfig", "AlignPropTrainer",
        "DefaultDDPOStableDiffusionPipeline", "DDPOStableDiffusionPipeline", "DDPOPipelineOutput",
        "DDPOSchedulerOutput",
    ),
    "causal language models only": ("AutoModelForSeq2SeqLMWithValueHead",),
    "AutoModelForCausalLMWithValueHead is the one there is": ("PreTrainedModelWrapper",),
    "PPOConfig(adap_kl_ctrl=True, target=..., horizon=...) adapts the coefficient": (
        "AdaptiveKLController", "FixedKLController",
    ),
    "give its name as text, such as f_divergence_type='js_divergence'": ("FDivergenceType", "FDivergenceConstants"),
    "the names of TRL's modules are in tieout.trl itself": (
        "chat_template_utils", "data_utils", "models", "extras", "experimental", "import_utils",
    ),
    "the learner takes care of it": (
        "ensure_master_addr_port", "disable_dropout_in_model", "peft_module_casting_to_bf16", "add_fused_lm_head",
    ),
}  # fmt: skip

ABSENT: dict[str, str] = {name: why for why, names in _WHY.items() for name in names}
"""Name -> why."""


def why_not(name: str, here: Iterable[str]) -> str:
    """Why a name is not there."""
    if name in ABSENT:
        return f"tieout.trl has no {name!r}: {ABSENT[name]}"
    near = get_close_matches(name, [*here], n=1, cutoff=0.8)
    return f"module 'tieout.trl' has no attribute {name!r}{f'; did you mean {near[0]!r}?' if near else ''}"
