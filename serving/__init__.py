"""A server that speaks TF Serving's API, and tools for it and for TF Serving's own.

The rooms in reading order; none imports one below it:

    status_codes       gRPC's codes, and the HTTP codes REST has for them
    errors             what a client gets to know of an error
    tensorflow_errors  the same, of those that TensorFlow raises
    freed_memory       given back after a version is unloaded, or used again
    command            how commands end, and what they say
    memory_limits      bounds on the memory that requests take
    monitoring         counters and histograms for Prometheus
    wire               large requests: contents apart from their message
    tensors            TensorProto <-> numpy
    models             loads SavedModels, chooses their versions, runs them in batches
    api                what each call of the API answers
    fronts             gRPC, HTTP and JSON, and the command line
    model_server       all of these as one server
    files              files that appear complete or not at all
    connection         a server's address, TLS
    predict_messages   requests and answers of Predict <-> numpy
    client             numpy in, numpy out; deadlines, retries
    tools              scoring, load tests, comparing, deploying

A verb beside them is a command, a leaf. Imports neither `recap_tf` nor `twhin_tf`: a
SavedModel is all it needs of them.
"""

import os

# What TensorFlow's C++ code warns of, it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
