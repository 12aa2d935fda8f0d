import numpy as np

from recap_tf.metrics.ctr import CTR, PCTR
from recap_tf.metrics.example_count import PositiveCount

KINDS = {"ctr": CTR, "pctr": PCTR, "count": PositiveCount}


def test_golden_ctr_pctr_count(golden):
    arrays = golden("metrics_ctr_pctr_count")
    inputs = {"labels", "probabilities", "stratifier_feature"}
    labels, probabilities = arrays["labels"], arrays["probabilities"]
    stratum_of = arrays["stratifier_feature"]
    checked = 0
    for key in arrays.keys() - inputs:
        kind, task, stratum, after = key.split("/")
        assert after == "after_each_batch", key
        metric = KINDS[kind](tasks=None if task == "task_all" else labels.shape[-1])
        for batch, expected in enumerate(arrays[key]):
            weight = np.ones_like(stratum_of[batch], np.float32)
            if stratum != "all":
                weight *= stratum_of[batch] == int(stratum.removeprefix("stratum_"))
            metric.update_state(labels[batch], probabilities[batch], weight)
            value = metric.result().numpy()
            if task != "task_all":
                value = value[int(task.removeprefix("task_"))]
            tolerance = 0 if kind == "count" else 1e-6
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=tolerance, err_msg=f"{key} batch {batch}"
            )
            checked += 1
    assert checked > 0
