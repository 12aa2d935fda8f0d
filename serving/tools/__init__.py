"""Work of the commands beside the server; each imports it when its flags are read.

score     scoring
loadtest  load_test: offered_load, request_pool, load_processes (load_worker),
          load_outcome, capacity, memory_log, load_report
compare   skew_check: answerer_names, answerers, differences
deploy    deployment_files: deployment, server_configs, manifests
all       rows, recording
"""
