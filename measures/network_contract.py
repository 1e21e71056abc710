"""The contract on a network of the user's: it trains soundly, and no measure fails on it."""

from __future__ import annotations

from collections import Counter

from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.models.build import Architecture
from gapbench.models.network_contract import NetworkCheck, check_network, own_fields
from gapbench.models.plugins import check_fields


def check(name: str, own: Architecture) -> list[NetworkCheck]:
    """Every check of `gapbench.models.network_contract.check_network`, and a reading of every built-in measure.

    A measure may be undefined on the network, with a reason; how many are, and the reasons, are in what was seen.
    """
    checks, trained = check_network(name, own, own_fields(check_fields(own)))
    if trained is None:
        return checks
    readings = read(list(BUILT_IN.measures.values()), BUILT_IN, trained)
    failed = {reading.measure: reading.reason for reading in readings if reading.status == "failed"}
    counts = Counter(reading.status for reading in readings)
    seen = ", ".join(f"{counts[status]} {status}" for status in ("ok", "undefined", "failed"))
    if failed:
        seen += f"; {'; '.join(f'{key}: {reason}' for key, reason in failed.items())}"
    return [*checks, NetworkCheck(name, "no measure fails", not failed, seen)]
