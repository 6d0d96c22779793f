# %% [markdown]
# ⟦text-speed⟧
#
# ## Many adapters on one base
#
# Merging gives up the best thing about an adapter: it is small, and the base is shared. Forty customers with
# an adapter of rank 16 each need one 7B model and forty files of 84 MB. Can one batch answer all of them?

