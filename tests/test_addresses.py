"""Passwords, keys and signatures of addresses are told nowhere."""

from __future__ import annotations

import pytest

from ric.addresses import redacted


@pytest.mark.parametrize(
    ("told", "hidden"),
    [
        ("https://me:pass@host/a.jsonl", "https://***@host/a.jsonl"),
        ("https://hf_token@host", "https://***@host"),
        ("s3://key:se@cret@bucket/a b", "s3://***@bucket/a b"),
        ("s3://KEY:ab/cd@bucket/x", "s3://***@bucket/x"),
        ("s3://KEY:12/c/d+e@bucket", "s3://***@bucket"),
        ("gs://KEY:a@b/c@bucket", "gs://***@bucket"),
        ("ftp://me:ab/cd@host/x", "ftp://***@host/x"),
        ("https://host:8080/plain/a@b", "https://host:8080/plain/a@b"),
        ("hdfs://host:9000/a@b", "hdfs://host:9000/a@b"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("zip://a.zip::ftp://me:pass@host/x", "zip://a.zip::ftp://***@host/x"),
        (
            "https://h/a?X-Amz-Signature=1f%2e&X-Amz-Date=2026#token=abc",
            "https://h/a?X-Amz-Signature=***&X-Amz-Date=***#token=***",
        ),
        ("https://h/a?sv=1;sig=2", "https://h/a?sv=***;sig=***"),
        ("--data=https://me:pass@host/a", "--data=https://***@host/a"),
        ("cannot read 'https://h/a?sig=12', nor b", "cannot read 'https://h/a?sig=***', nor b"),
        ("https://host/plain/a@b?raw", "https://host/plain/a@b?raw"),
        ("hf://datasets/org/name@main/a.parquet", "hf://datasets/org/name@main/a.parquet"),
        ("me@host: is a=b? yes & c=d", "me@host: is a=b? yes & c=d"),
        ("scenes:300@64#7", "scenes:300@64#7"),
    ],
)
def test_a_login_and_all_values_behind_the_question_mark_are_hidden_and_nothing_else(told, hidden):
    assert redacted(told) == hidden
    assert redacted(hidden) == hidden


def test_addresses_are_found_in_lists_and_dicts_of_any_depth():
    address, hidden = "https://me:pass@host", "https://***@host"
    assert redacted({"a": [address, {"b": (address, 1, None)}], address: 2.5}) == {
        "a": [hidden, {"b": [hidden, 1, None]}],
        hidden: 2.5,
    }
