"""What can be wrong with settings, and where the bounds come from.

QLoRA: Dettmers and others 2023 and its scripts. LLFL: Biderman and others 2024, "LoRA Learns Less and
Forgets Less". Regret: Schulman and others 2025, "LoRA Without Regret". Handbook: the recipes of Hugging
Face's alignment handbook. What the libraries do was tried with trl 1.16, transformers 5.23, peft 0.21.
"""

from labsupport.findings.finding import Rule

# ---------------------------------------------------------------- names and values

OUTDATED = Rule(
    "outdated-argument",
    "error",
    "TRL 1.16 and transformers 5.23 no longer have this argument: they stop before the first step.",
    "Use the name that stands beside it.",
)
DEPRECATED = Rule(
    "deprecated-argument",
    "note",
    "The pinned libraries still take this, with a warning; a later version will refuse or ignore it.",
    "Use what stands beside it.",
)
AS_TEXT = Rule(
    "number-as-text",
    "note",
    "YAML 1.1 reads 2e-4 as text: trl's parser makes a number of it, a script of your own hands a text on.",
    "Write the number with a point, such as 2.0e-4.",
)
UNQUOTED = Rule(
    "unquoted-no",
    "error",
    "YAML reads a bare no as false, which transformers refuses as a strategy.",
    'Put it in quotes: "no".',
)
REFUSED = Rule(
    "settings-refused",
    "error",
    "The libraries refuse these settings together: the run stops when the trainer is built.",
    "Change one of the settings that are named.",
)

# ---------------------------------------------------------------- the adapter

NOT_USED = Rule(
    "lora-not-used",
    "warning",
    "trl sft makes adapters only with use_peft: without it all weights are trained, at their memory and at a "
    "learning rate that is meant for adapters.",
    "Add use_peft: true.",
)
# LLFL: 16 to 256, QLoRA 64, PEFT's default 8, TRL's 16; the first paper's 1 and 2 were of q and v alone.
RANKS = (4, 256)
RANK = Rule(
    "rank-unusual",
    "warning",
    "Published fine-tunes of language models use ranks from 4 to 256: a lower one may hold too little, a "
    "higher one costs memory and was not shown to gain anything.",
    "Take a rank of 8 to 64 first.",
)
# QLoRA 16/64, PEFT 1, LLFL 2, many guides 4. Regret keeps alpha at 32 for ranks from 1 to 512; TRL's page on
# it (lora_without_regret) has 16 at rank 256, 32 at rank 1: those alphas are no fault whatever the rank.
ALPHA_TO_RANK, FIXED_ALPHAS = (0.25, 4.0), (16, 32)
ALPHA = Rule(
    "alpha-unusual",
    "warning",
    "alpha / r multiplies the adapter's output: published recipes have 0.25 to 4, far above it training "
    "becomes unstable and far below it the adapter hardly learns.",
    "Take an alpha of once or twice the rank.",
)
TARGET = Rule(
    "target-not-in-model",
    "error",
    "PEFT passes over target names that the model does not have, and stops if none is left.",
    "Name the model's own linear layers, or all-linear.",
)
NOT_QLORA = Rule(
    "four-bit-not-qlora",
    "warning",
    "QLoRA is nf4 computed in bfloat16: with fp4 its authors measured a worse model (MMLU 52.2, not 53.1), "
    "and float32 takes more memory and time.",
    "Set bnb_4bit_quant_type: nf4 and dtype: bfloat16 (bnb_4bit_compute_dtype in a script of your own).",
)

# ---------------------------------------------------------------- the schedule

# Explicit rates below are those of full fine-tuning; TRL's default, 2e-5, is one. Regret: LoRA wants 10 times
# a full fine-tune's; LLFL swept 5e-5 to 5e-4; QLoRA 1e-4 and 2e-4; llama-recipes (configs/training.py) and
# PEFT's method_comparison 1e-4. TRL's page on Regret has 2e-4 in its script, and 2e-5 in its command line.
LOW_FOR_LORA = 3e-5
LOW = Rule(
    "learning-rate-low",
    "warning",
    "LoRA wants about ten times a full fine-tune's rate (LoRA Without Regret: 9.8 times over 14 models): at "
    "this one it hardly learns in the steps that one pays for.",
    "Take 1e-4 to 2e-4 first.",
)
# By parameters: less than that many -> the highest rate that is still believed. LoRA: LLFL's best was 5e-4,
# near the highest that trained stably; the best rate falls with a model's width (Regret's fit), and this
# course takes 2e-3 for 135M. Full: Handbook 1e-3 for SmolLM2-135M and 360M, 3e-4 for 1.7B; from 3B on 2e-5
# (Handbook for 3B, 7B and 15B, Alpaca's README, TRL), and llama-recipes' 1e-4 whatever is trained.
HIGH_FOR_LORA = {1e9: 4e-3, float("inf"): 1e-3}
HIGH_FOR_FULL = {1e9: 1e-3, 3e9: 3e-4, float("inf"): 1e-4}
HIGH = Rule(
    "learning-rate-high",
    "warning",
    "The rate is above all published ones for such a model: training becomes unstable, or undoes what the "
    "model knew.",
    "Take 2e-4 first for LoRA, 2e-5 for a full fine-tune.",
)
EPOCHS = (0.5, 10.0)
# LLFL, tables S5 and S7: LoRA is best after 4 to 8 epochs of 1 to 16, a full fine-tune after 2 to 4.
MANY_EPOCHS = Rule(
    "many-epochs",
    "warning",
    "LoRA Learns Less measured 1 to 16 epochs: adapters were best after 4 to 8, and after that the rows are "
    "learned by heart.",
    "Take 1 to 4 epochs, and evaluate before adding more.",
)
PART = Rule(
    "part-of-the-data",
    "warning",
    "The run ends before it has seen half of the rows; max_steps counts whatever num_train_epochs says.",
    "Leave max_steps out, or give fewer rows on purpose.",
)
FEW_STEPS = Rule(
    "few-steps",
    "warning",
    "A weight moves by about the rate a step, and LoRA's B starts at zero: so few steps teach little.",
    "Make the effective batch smaller, turn packing off or add epochs.",
)
WARMUP_SHARE = 0.3  # QLoRA 0.03, LLFL and Handbook 0.1
WARMUP = Rule(
    "warmup-long",
    "warning",
    "Published recipes warm up for 3 to 10 % of the steps: a run that spends most of its steps below its "
    "learning rate learns at another rate than you chose.",
    "Set warmup_steps: 0.05 (below 1 it is a share of all steps).",
)
LARGEST_BATCH = 64  # Regret: LoRA loses more to large batches than full fine-tuning; TRL's page: below 32
BATCH = Rule(
    "batch-large",
    "warning",
    "LoRA loses more to large batches than full fine-tuning does, at any rank (LoRA Without Regret; TRL's "
    "page on it advises less than 32).",
    "Lower gradient_accumulation_steps: 16 rows a step is what QLoRA used.",
)

# ---------------------------------------------------------------- with the data, the model, the card

COMPLETION_ONLY = Rule(
    "completion-only-loss-ignored",
    "error",
    "completion_only_loss does nothing for rows without a completion of their own: TRL says no word and "
    "trains on the prompts as well.",
    "Give prompt and completion columns, or use assistant_only_loss: true for messages.",
)
ASSISTANT_ONLY = Rule(
    "assistant-only-loss-refused",
    "error",
    "assistant_only_loss needs a conversation and a chat template with generation markers, which TRL knows "
    "for some templates only: it stops.",
    "Set chat_template_path to a template with {% generation %}, or give prompt and completion columns.",
)
TEXT_FIELD = Rule(
    "text-field-missing",
    "error",
    "TRL looks for text in the column that dataset_text_field names, and the rows have no such column.",
    "Set dataset_text_field to the column's name.",
)
WRAPPED = Rule(
    "packing-leaks",
    "warning",
    "The wrapped strategy cuts rows in two and lets each see the rows packed before it.",
    "Leave packing_strategy out: bfd, the default, keeps the rows apart.",
)
CONTEXT = Rule(
    "longer-than-context",
    "warning",
    "Rows go in that are longer than the positions the model was made for, where it says nothing sensible.",
    "Set max_length to the model's positions, or less.",
)
FP16 = Rule(
    "fp16-for-bf16-model",
    "warning",
    "The model was trained in bfloat16, and its activations can overflow in float16: by QLoRA's authors a "
    "fifth of such 7B runs broke off.",
    "Set bf16: true and leave fp16 out, unless the card is older than Ampere (T4, V100).",
)
NO_BF16 = Rule(
    "no-bf16-on-card",
    "error",
    "The card has no bfloat16 arithmetic, and TRL turns bf16 on unless fp16 is: it stops or crawls.",
    "Set fp16: true and dtype: float16, or rent a card from Ampere on.",
)
NO_EVAL_FILE = Rule(
    "no-evaluation-file",
    "note",
    "The settings ask for evaluation, and no file was given to look at: leaks from it are not looked for.",
    "Give it with --eval.",
)
NEVER_EVALUATED = Rule(
    "evaluation-never-runs",
    "note",
    "There is evaluation data, but the trainer will not look at it: eval_strategy is no unless it is set.",
    "Set eval_strategy: epoch.",
)

RULES = (
    *(OUTDATED, DEPRECATED, AS_TEXT, UNQUOTED, REFUSED, NOT_USED, RANK, ALPHA, TARGET, NOT_QLORA, LOW, HIGH),
    *(MANY_EPOCHS, PART, FEW_STEPS, WARMUP, BATCH, COMPLETION_ONLY, ASSISTANT_ONLY, TEXT_FIELD, WRAPPED),
    *(CONTEXT, FP16, NO_BF16, NO_EVAL_FILE, NEVER_EVALUATED),
)
