"""A server that speaks TF Serving's API and installs with pip.

Read in this order; no module imports one below it:

    errors              a gRPC status with TF Serving's message, and its HTTP code
    memory              what happens to freed memory, and when garbage is looked for
    limits              bounds on the memory that requests take
    flags               the command line: tensorflow_model_server's names and defaults
    text_configs        the text-format files that the flags name
    wire                large requests: contents apart from their message
    tensors             TensorProto <-> numpy
    monitoring          counters and histograms for Prometheus
    batching            requests of many callers through one run of the model
    same_graph          whether two versions differ in their variables only
    version_files       a version's files, looked at before it is loaded
    signatures          what a model can be asked, and which arrays it takes
    priority            work that requests do not wait for
    program             a SavedModel's graph, and what is computed with it
    saved_model         a SavedModel that is loaded: a session that runs a program
    warmup              recorded requests that a version answers before it serves
    loader              loads and unloads versions, whole or only their variables
    versions            which versions of a base path to serve, and their states
    models              all models: config, polling, look-up, reload
    predict, examples, metadata    what each call of the API answers
    service             the calls of the API, counted and timed; both fronts use it
    event_loop          an asyncio loop in a thread of its own
    grpc_front          the services over gRPC
    rest_codec, http_connections, rest_front    the same over HTTP and JSON
    server              the command

Beside the server, usable against TF Serving's own as well:

    command, files      how commands end; files that appear complete or not at all
    connection          a server's address, TLS
    client              numpy in, numpy out; deadlines, retries
    rows, recording     requests from record files, parquet and request logs
    score               command: scores a file
    load_worker, load   requests at their times, from several processes
    capacity, memory_log, request_pool, load_report    parts of the load test
    loadtest            command: latency, throughput, errors, memory under load
    answerers, differences, compare    command: two models' answers to the same requests
    deployment, manifests, deploy      command: files for TF Serving's image

Imports neither `recap_tf` nor `twhin_tf`: a SavedModel is all it needs of them.
"""

import os

# What TensorFlow's C++ code warns of, it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
