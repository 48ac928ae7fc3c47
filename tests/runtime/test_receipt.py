import pytest

from taskwidgets import Receipt

FACTS = {"bytes": 10, "seconds": 1.0, "sha256": "0" * 64, "source": "a.csv", "target": "a"}


def test_counts_that_do_not_reconcile_make_no_receipt():
    """A receipt whose rows read are not loaded plus rejected cannot be made."""
    with pytest.raises(ValueError, match="3 rows read, but 2 loaded and 0 rejected"):
        Receipt(rows_read=3, rows_loaded=2, rows_rejected=0, **FACTS)


def test_a_receipt_survives_the_store():
    """to_json and from_json are inverse, and entries of a newer release are passed over."""
    receipt = Receipt(rows_read=3, rows_loaded=2, rows_rejected=1, notes=("a",), **FACTS)
    assert Receipt.from_json({**receipt.to_json(), "from_the_future": 1}) == receipt


def test_what_a_function_returned_survives_the_store():
    """result is kept as it is; a receipt of an older release has none."""
    receipt = Receipt(rows_read=2, rows_loaded=2, rows_rejected=0, result={"a": [1]}, **FACTS)
    stored = receipt.to_json()
    assert Receipt.from_json(stored) == receipt
    del stored["result"]
    assert Receipt.from_json(stored).result is None
