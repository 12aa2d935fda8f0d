"""How hypothesis draws its examples: the same in every run."""

import hypothesis

# A busy machine is no fault, and a suite that fails now and then is none to trust.
# To search further: hypothesis.settings(max_examples=10_000, derandomize=False).
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("same")
