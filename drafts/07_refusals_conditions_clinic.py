
# %% [markdown]
# PROSE_NEAR
#
# So a *random* split of rows is an evaluation on the second line, and the shop lives on the fourth. Guide 004's
# fix is the right one: a held-out set "that looks like real production traffic". Split by what belongs together
# (notebook 06 shows how copies get across a split), and keep a set that nobody generated.
#
# ### When one process made both
#
# Guide 001 tells of training answers that a model had written, 8 % of them wrong, and of an evaluation set "generated
# by the same process so it never caught them". Here a labeller calls every exchange a return, in the training rows
# and in the test:

# %% tags=["core", "claim-M11"]
process = judging.process_shares(experiments.published("one_process"), experiments.published("chat_formats"))
exchanges, still_right = judging.exchanges(experiments.published("one_process"))
print(f"exchanges in the test, both seeds: {exchanges}, right by the right labels: {still_right}")
Table(
    ["trained on, judged by", "right, forced (%) [95 %]"],
    [[name, f"{mean:.0f} [{low:.0f}, {high:.0f}]"] for name, (mean, low, high) in process.items()],
    "256 rows, 32 steps, two seeds; lookalike messages",
)

# %% [markdown]
# PROSE_PROCESS
#
# ## What it forgets
#
# > **Guide 001 says**: after epoch 3 task accuracy was 91 %, after 5 93 %, after 8 94 %, "and general capability
# > (MMLU slice) had dropped from 71% to 58%". Guide 002 says of LoRA: "Minimal risk" of forgetting.
#
# Does that happen here? Sixty-four rows, eight epochs, three ways to train: LoRA; all weights (*full*); LoRA with
# 15 % general text among the rows (*replay*). Each at the learning rate that suits it, and LoRA and full at a
# quarter of that, too.
#
# Forgetting needs a measure that moves before anybody sees damage. On 20,130 tokens of general text (essays,
# dialogues, code, recipes, letters) we ask how far the tuned model's distribution over the next token has moved
# from the untuned model's. The measure is the [KL divergence](../glossary.md#kl-divergence), in nats a token:
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_v p_v\,(\log p_v - \log q_v)$$
#
# By hand, with two tokens: $p = (0.5, 0.5)$ before and $q = (0.9, 0.1)$ after give
# $0.5 \log(0.5/0.9) + 0.5 \log(0.5/0.1) = -0.29 + 0.80 = 0.51$. Where nothing moved it is 0. The NLL of the same
# text says how much of that is loss and not mere change, and the canary's questions illustrate.

# %% tags=["core"]
guess = None  # of the canary's 120 questions LoRA loses how many points in eight epochs? (negative: it gains)

# %% tags=["core", "claim-M12"]
record = experiments.published("forgetting")
after = {arm: forgetting.canary_change(record, arm, 8) for arm in forgetting.arms(record)}
predictions.compare(guess, -100 * after["lora", 2e-3][0], unit="points")
forgetting.table(record)

# %% tags=["core"]
plots.show(forgetting.frontier(record, TITLE_FRONTIER), ALT_FRONTIER)

# %% [markdown]
# PROSE_FORGETTING

# %% [markdown]
# ### When to stop
#
# > **Guide 001 says**: "Stop training when validation loss stops decreasing for 2 consecutive epochs".
# > **Guide 000 says**: "LoRA adapters overfit severely after one epoch."

# %% tags=["core", "claim-M3"]
lines = []
for arm in forgetting.arms(record):
    for seed, losses in forgetting.validation(record, arm).items():
        best = losses.index(min(losses)) + 1
        stop = forgetting.stops_at(losses, patience=2)
        lines.append([forgetting.ARMS[arm][0], seed, " ".join(f"{loss:.1f}" for loss in losses), best, stop])
Table(["arm", "seed", "validation, nats an answer, epochs 1 to 8", "best epoch", "rule stops at"], lines)

# %% [markdown]
# PROSE_STOP

# %% [markdown]
# ### What it no longer declines, and answers to what nobody asked
#
# *policy* is another task: a question, a shop's policy, one sentence in reply, or "I can't answer that from the
# policy" where it does not say. Train once with the refusals among the rows, once with answered questions only.

# %% tags=["core"]
guess = None  # trained on answers only, the model still declines in how many % of the cases it should?

# %% tags=["core"]
of_refusals = experiments.published("refusals")
predictions.compare(guess, 100 * judging.refusal_shares(of_refusals, "answers_only")["refused"][0], unit="%")
judging.refusals_table(of_refusals)

# %% [markdown]
# PROSE_REFUSALS

# %% tags=["core"]
lines = [[kind, count, untuned, tuned] for kind, (count, untuned, tuned) in conditions.elsewhere(of_conditions).items()]
Table(
    ["asked", "prompts", "answered as a ticket, untuned", "… tuned on tickets"],
    lines,
    "Prompts that are no tickets, without the ticket prompt",
)

# %% [markdown]
# PROSE_ELSEWHERE

# %% [markdown]
# ## The evaluation is a variable, too
#
# The same weights, the same rows. What else moves the score?

# %% tags=["core"]
conditions.scoring_table(of_conditions)

# %% [markdown]
# PROSE_SCORING
#
# Now written out:

# %% tags=["core"]
guess = None  # greedy, in batches of 16 padded on the right: how many % of the lookalike replies are right?

# %% tags=["core"]
right_padded = conditions.judged(of_conditions, "bfloat16, batch 16, right", "test_lookalike")["right"]
predictions.compare(guess, 100 * np.mean(right_padded), unit="%")
conditions.writing_table(of_conditions)

# %% [markdown]
# PROSE_WRITING

# %% [markdown]
# ### Greedy or sampled?
#
# Greedy decoding always takes the likeliest token: one model, one reply. Sampling draws from the distribution,
# divided in the exponent by a *temperature*. Five draws of the same 48 production messages:

# %% tags=["core"]
greedy = conditions.judged(of_conditions, conditions.GREEDY, "test_production")
lines = [["greedy", f"{100 * np.mean(greedy['right']):.0f}", f"{100 * np.mean(greedy['valid']):.0f}"]]
for temperature, samples in conditions.sampled(of_conditions).items():
    shares = [[f"{100 * np.mean(sample[key]):.0f}" for sample in samples] for key in ("right", "valid")]
    lines.append([f"temperature {temperature}", *(" ".join(values) for values in shares)])
Table(["decoding", "right (%), five draws", "valid JSON (%), five draws"], lines)

# %% [markdown]
# PROSE_SAMPLED

# %% [markdown]
# ### A model as judge
#
# Free text has no exact match, so people let a model judge: show it question and two answers, A and B, and ask
# which is better. Guide 001 recommends it with a strong model. Before you believe a judge, try it on pairs whose
# right verdict you know, in *both orders*. Here the judge is the course's own small model, so its verdicts are
# worth little. The method of trying it is the point, and it finds two biases that large judges have been shown to
# have as well ([Zheng et al. 2023](https://arxiv.org/abs/2306.05685)): for a place, and for length.

# %% tags=["core"]
judging.judge_table(experiments.published("judge"))

# %% [markdown]
# PROSE_JUDGE

# %% [markdown]
# ## Read the errors
#
# No average tells you what to do next; twenty wrong rows do. The browser shows every test message with what was
# expected and what each model answered. Look for what the wrong products have in common.

# %% tags=["core"]
error_browser_explorer.explore(set="production", outcome="wrong", field="product")

# %% [markdown]
# ## The clinic
#
# Sixteen runs on a desk, one of them healthy, most of them not, made by a seeded program (`python3 lab.py experiment
# clinic` makes them anew). You see of each what you would see of your own: the settings, the loss curve, five
# replies. Everything else costs, as at work: to look at five tokenised rows nothing, an evaluation $0.20, a
# retraining $3, and a wrong diagnosis $1. Spend as little as you can. The causes to choose from:

# %% tags=["core"]
clinic.causes()

# %% tags=["core"]
clinic.case(1)

# %% [markdown]
# Ask with `clinic.case(1).probe("tokens")`, name with `clinic.case(1).name("lr-too-high")`, and see where you stand
# with `clinic.bill()`. What was paid for stays paid, over restarts.

# %% tags=["core"]
# clinic.case(1).probe("tokens")

# %% tags=["core"]
# clinic.case(1).name("...")

# %% tags=["core"]
clinic.bill()

# %% [markdown]
# `clinic.leaderboard("your-name")` writes a file that an instructor can collect; `lab.py leaderboard *.json` ranks
# them. Fifteen cases are left: `clinic.case(2)` and so on.
