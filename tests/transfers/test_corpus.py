"""Polluted files through the whole way into Postgres, with no argument but text for a type."""

from collections import Counter
from itertools import islice

import pytest
from tabular.pollution import Variant, variants

EVERY = 80  # of some 3,400 variants; benchmarks/detection.py looks at all of them


def comparable(row):
    return tuple("" if cell is None else cell.strip() for cell in row)


def is_right(variant: Variant, names, rows) -> bool:
    """Header and records are the truth, but for the damaged one, which may come out in pieces."""
    if variant.names is not None and tuple(names) != tuple(variant.names):
        return False
    truth, found = Counter(map(comparable, variant.records)), Counter(map(comparable, rows))
    missing, extra = truth - found, found - truth
    if variant.damaged is None:
        return not missing and not extra
    missing.pop(comparable(variant.records[variant.damaged]), None)
    return not missing and extra.total() <= 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("start", range(4))
def test_every_record_but_the_damaged_one_arrives(workspace, tmp_path, look, start):
    """Header, records and cells are those of the truth; read = loaded + rejected."""
    wrong = []
    for number, variant in enumerate(islice(variants(), start * EVERY // 4, None, EVERY)):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(variant.data)
        if not variant.names and not variant.records:
            continue
        table = f"t{number}"
        job = workspace.upload(path, table, types="text", on_error="reject")
        receipt = job.wait()
        assert receipt.rows_read == receipt.rows_loaded + receipt.rows_rejected
        assert len(job.rejects()) == receipt.rows_rejected
        if not is_right(variant, look.types(table), look.rows(table)):
            wrong.append(variant.name)
    assert wrong == []
