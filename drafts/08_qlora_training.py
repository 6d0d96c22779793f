# %% [markdown]
# # 08 · QLoRA training: a large model on a small card
#
# **In one sentence**: the base in four bits, adapters in full precision, and a measurement of what each switch of
# that recipe saves and costs.
#
# **Minutes**: ? to read and do, ? to run all cells.
#
# (schematic: base in NF4, frozen, dequantised block by block into bf16 for each product; adapters float32 beside
# it; gradient passes through the dequantised weight and stops at A and B; optimizer holds A and B alone)
#
# ## Why four bits (planner table: 7B weights 14.2 GiB in bf16, 3.9 in NF4; what is left for activations on 24 GB)
#
# ## One recipe for the processor and the card
# BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
#   bnb_4bit_compute_dtype=torch.bfloat16 on a card with it, torch.float32 here)
# claim D?: bare load_in_4bit=True is not QLoRA: print its quant_type fp4, compute float32, no double quantisation;
#   loss on 16 rows: full, NF4, bare FP4.
# prepare_model_for_kbit_training: what it does (norms and head to float32, input gradients, checkpointing) and what it
#   costs (planner: with and without; TRL 1.16 does not call it: only the input gradients and the adapters' dtype).
# LoraConfig; SFTConfig; SFTTrainer; the adapters' dtype after SFTTrainer (bfloat16!) and the two lines that mend it.
# 4 steps live on real bitsandbytes, 135M.
#
# ### Exercise 1: the memory of a QLoRA step by hand (weights 4.127 bits, adapters 4+4+8 bytes, ...)
#
# ## What the rounding costs: four arms, six seeds (recorded: qlora)
# guess: nats an answer more than full precision. reading.arms_table, reading.bases_table
# before training (seed 0): reading.level(record, arm, split, "answer", "before")
# noise arm: is NF4 more than noise?
# claim D13, J3: adapters on the other base.
# ### Exercise 2: paired gap with interval over seeds and rows (uses paired families of 07)
#
# ## Is the curve bumpier? (guide 000) define: reading.bumpiness; exercise 3: write it; reading.bump_ratio
# ## Lower rate, twice the steps (guide 000) (experiment qlora_recipe: rate x epochs, NF4, two seeds; NOT WRITTEN)
# ## A fault of processors, shown safely: bitsandbytes on AVX512-BF16 repacks its weights in eval mode (guard)
# ## Optimizers: adamw_torch, adamw_8bit, paged_adamw_8bit: bytes of state by counting; what pages and what does not;
#    on the processor the fall-back is said
# ## Kill it half-way: run_store.recorded in a child process, SIGKILL, resume, equal to the last bit (expect)
# ## Explorer: QLoRA recipe (switch by switch by the planner)
# ## The rented hour: gpu-hour --dry-run, what comes home: gpu_hour.reading; gpu-check; docs/renting.md
# ## Checkpoint; On a rented GPU
