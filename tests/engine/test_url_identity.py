"""Which URLs mean the same file."""

import pytest

from taskwidgets.engine.url_identity import url_identity

SAME = {
    "an S3 link signed anew": (
        "https://b.s3.amazonaws.com/x.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a"
        "&X-Amz-Date=20261101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=1",
        "https://b.s3.amazonaws.com/x.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=b"
        "&X-Amz-Date=20261102T000000Z&X-Amz-Expires=90&X-Amz-SignedHeaders=host&X-Amz-Signature=2",
    ),
    "an Azure link signed anew": (
        "https://a.blob.core.windows.net/c/x.csv?sv=2022-11-02&se=2026-11-01&sr=b&sp=r&sig=abc",
        "https://a.blob.core.windows.net/c/x.csv?sv=2024-11-04&se=2026-12-01&sr=b&sp=rl&sig=def",
    ),
    "a Google link signed anew": (
        "https://storage.googleapis.com/b/x.csv?GoogleAccessId=a&Expires=1&Signature=1",
        "https://storage.googleapis.com/b/x.csv?GoogleAccessId=a&Expires=2&Signature=2",
    ),
    "a CloudFront link signed anew": (
        "https://d1.cloudfront.net/x.csv?lang=en&Expires=1&Signature=1&Key-Pair-Id=K",
        "https://d1.cloudfront.net/x.csv?lang=en&Expires=2&Signature=2&Key-Pair-Id=K",
    ),
    "a new password": ("https://ann:one@host/x.csv", "https://ann:two@host/x.csv"),
    "a new bearer token": ("https://host/x?access_token=1", "https://host/x?access_token=2"),
    "a fragment": ("https://host/x.csv#a", "https://host/x.csv"),
    "the host's case": ("HTTPS://Host/x.csv", "https://host/x.csv"),
}
DIFFERENT = {
    "a masked parameter": ("https://h/x?country_code=AAA", "https://h/x?country_code=BBB"),
    "a key that chooses": ("https://h/x?key=sales", "https://h/x?key=costs"),
    "a session of the year": ("https://h/x?session=2025", "https://h/x?session=2026"),
    "parameters of Azure without a signature": ("https://h/x?sp=1", "https://h/x?sp=2"),
    "Expires without a signature": ("https://h/x?expires=1", "https://h/x?expires=2"),
    "beside a signature": (
        "https://h/x?part=1&sv=1&se=1&sig=a",
        "https://h/x?part=2&sv=1&se=1&sig=a",
    ),
    "another user": ("https://ann@h/x.csv", "https://bob@h/x.csv"),
    "another path": ("https://h/x.csv", "https://h/X.csv"),
    "another port": ("https://h:1/x.csv", "https://h:2/x.csv"),
    "a bare query": ("https://h/x?2025", "https://h/x?2026"),
    "a blank value": ("https://h/x?a=", "https://h/x"),
    "the order": ("https://h/x?a=1&a=2", "https://h/x?a=2&a=1"),
}


@pytest.mark.parametrize("name", SAME)
def test_what_only_signs_does_not_count(name):
    """Links that are signed anew, and what the server never sees, are the same file."""
    first, second = SAME[name]
    assert url_identity(first, {}) == url_identity(second, {})


@pytest.mark.parametrize("name", DIFFERENT)
def test_everything_else_counts(name):
    """Other parameters count, also those that are never shown."""
    first, second = DIFFERENT[name]
    assert url_identity(first, {}) != url_identity(second, {})


def test_of_storage_options_only_credentials_do_not_count():
    """An endpoint says which file; a key does not. Objects count by their class."""
    url = "s3://bucket/x.csv"
    one = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": "http://one"}}
    rotated = {"key": "c", "secret": "d", "client_kwargs": {"endpoint_url": "http://one"}}
    other = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": "http://two"}}
    assert url_identity(url, one) == url_identity(url, rotated)
    assert url_identity(url, one) != url_identity(url, other)
    assert url_identity(url, {"session": object()}) == url_identity(url, {"session": object()})
