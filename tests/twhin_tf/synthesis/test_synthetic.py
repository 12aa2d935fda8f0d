"""The command makes a graph; flags that cannot be are refused."""

import pytest

from recap_tf.core.command import UserError
from twhin_tf.synthetic import main


def test_the_command_makes_a_graph_and_its_config(tmp_path, capsys):
    flags = ["--nodes", "a=30", "b=20", "--relations", "r=a:b:100:0.8"]
    flags += ["--communities", "2", "--held-out", "0.1,0.1", "--no-inverse"]
    main(["--out", str(tmp_path / "g"), *flags])
    out = capsys.readouterr().out
    assert "r: best reachable raw tail MRR" in out and str(tmp_path / "g") in out
    assert (tmp_path / "g" / "graph.gin").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--nodes", "a=3"], "--nodes and --relations must be given together"),
        (
            ["--nodes", "a=x", "--relations", "r=a:a:9:.5"],
            r"--nodes takes TYPE=COUNT.* Received: 'a=x'",
        ),
        (
            ["--nodes", "a=3", "--relations", "r=a:a"],
            "--relations takes NAME=LHS:RHS:EDGES:PROBABILITY.* Received: 'r=a:a'",
        ),
        (["--held-out", "0.1"], r"--held-out takes two shares.* Received: '0.1'"),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        main(["--out", str(tmp_path / "g"), *flags])
