"""Flags that cannot be are refused in one line, and leave nothing behind."""

import pytest
from conversions import EDGES, convert

from recap_tf.core.command import UserError


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--columns", "head,rel,tail"], "has no column 'rel'. Nearest: 'relation'"),
        (["--columns", "a"], "--columns takes the names of three columns"),
        (["--types", "likes=user"], "--types takes RELATION=LHS:RHS. Received: 'likes"),
        (["--types", "likes=a:b", "likes=a:c"], "lists relation 'likes' twice"),
        (["--types", "likes=a:b"], "row 4: --types does not list relation 'follows'"),
        (
            ["--types", "likes=a:b", "follows=a:a", "follow=a:a"],
            "--types lists relation 'follow', which no edge has. Nearest: 'follows'",
        ),
        (["--type-prefix", ":"], "row 1: --type-prefix : needs ids such as user:7"),
        (["--type-prefix", ":", "--types", "a=b:c"], "cannot be given together"),
        (["--split", "0.9,0.2"], "--split takes up to three positive shares"),
        (["--split", "all"], "--split takes shares such as 0.9,0.05,0.05"),
        (
            ["--split", "0.5,0.5", "--test", "x"],
            "--split and --test exclude",
        ),
        (["--test", "/no/such"], "--test /no/such matches no file"),
        (["--min-count", "9"], "--min-count 9 leaves no entity of type 'entity'"),
        (["--min-count", "-1"], "--min-count must be at least 0. Received: -1"),
        (["--seed", "-1"], "--seed must be at least 0. Received: -1"),
        (["--seed", "-1", "--split", "1"], "--seed must be at least 0. Received: -1"),
        (["--split", "nan,0.1"], "--split takes up to three positive shares"),
        (["--split-by", "pair"], "--split-by says how --split splits"),
        (["--relation", "likes"], "--relation is for edges without a column for it"),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        convert(tmp_path, EDGES, *flags)
    assert not (tmp_path / "graph").exists()
    assert not list(tmp_path.glob(".partial*"))
