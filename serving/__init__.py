"""A server that speaks TF Serving's API and installs with pip: not built yet.

Will import neither `recap_tf` nor `twhin_tf`: a SavedModel is all it needs of them.
"""
