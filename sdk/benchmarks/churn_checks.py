"""What must be true after the churn, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from churn_watch import Watch, overtaken

SLACK_S = 1.0
"""A scheduler that decides has not yet heard of what came this moment, and who had a conflict is served a little
later."""
STALL_S = 1.0

Reports = list[dict[str, Any]]
HOPS = ("released", "deleted", "available", "granted", "leased", "called")


def faults(agents: dict[str, Any], clients: Reports, watch: Watch, left: list[str]) -> Iterator[str]:
    """Everything that must not be."""
    for name, exporter in agents.items():
        yield from (f"two holders: {name}: {fault}" for fault in exporter["faults"])
        lasting = [each["lease"] for each in exporter["visits"] if not each["torn_down"]]
        yield from (f"never torn down: {lease} at {name}" for lease in lasting)
    visited = {each["lease"] for exporter in agents.values() for each in exporter["visits"]}
    for report in clients:
        yield from (f"a client failed: {fault}" for fault in report["faults"])
        takes = report["takes"]
        yield from (f"forgotten: {each['lease']} of {each['user']}" for each in takes if not each["called"])
        strange = [each["lease"] for each in takes if each["called"] and each["lease"] not in visited]
        yield from (f"served nowhere: {lease}" for lease in strange)
        served = {each["user"] for each in takes if each["called"]}
        yield from (f"forgotten: {user} had no lease at all" for user in report["users"] if user not in served)
    yield from (f"order: {text}" for text in overtaken(watch, SLACK_S))
    yield from (f"left over: {text}" for text in left)


def handovers(agents: dict[str, Any], clients: Reports, watch: Watch) -> list[dict[str, float]]:
    """When each hop was, for every lease that was released and followed by another, for which somebody waited."""
    released = {each["lease"]: each["released"] for report in clients for each in report["takes"]}
    entered = {each["lease"]: each["entered"] for exporter in agents.values() for each in exporter["visits"]}
    found = []
    for name in agents:
        granted = ((id_, each) for id_, each in watch.waits.items() if each.board == name)
        for (before, _), (after, wait) in pairwise(sorted(granted, key=lambda each: each[1].granted)):
            begin, end = released.get(before, 0.0), entered.get(after, 0.0)
            if begin and end and wait.since < begin:
                hops = _hops(watch, name, begin, wait.until, end)
                found.append({"released": begin, "granted": wait.until, "called": end} | hops)
    return found


def _hops(watch: Watch, name: str, begin: float, granted: float, called: float) -> dict[str, float]:
    deleted = [at for at in watch.deleted.get(name, ()) if begin < at < granted]
    said = watch.said.get(name, ())
    available = [at for at, state in said if state == "available" and begin < at < granted]
    leased = [at for at, state in said if state == "leased" and granted < at < called]
    hops = {"deleted": deleted[-1:], "available": available[:1], "leased": leased[:1]}
    return {hop: at[0] for hop, at in hops.items() if at}


def quantiles(values: list[float]) -> str:
    """Median, 99th percentile and most, of seconds."""
    if not values:
        return "none"
    ordered = sorted(values)
    middle, most = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{1e3 * middle:6.0f} ms median {1e3 * most:6.0f} ms p99 {1e3 * ordered[-1]:6.0f} ms max"


def pauses(what: str, report: dict[str, Any], begin: float) -> str:
    """When a process could not go on."""
    worst = sorted(report["pauses"], key=lambda each: each[1], reverse=True)[:3]
    told = ", ".join(f"{pause:.2f} s at {at - begin:.1f} s (computing {used:.2f} s)" for at, pause, used in worst)
    return f"longest pauses of {what:8} {told or 'none'}"


def figures(agents: dict[str, Any], clients: Reports, watch: Watch, begin: float, end: float) -> Iterator[str]:
    """What is printed, line by line."""
    granted = sorted(each.until for each in watch.waits.values() if each.granted)
    during = [at for at in granted if begin <= at <= end]
    visits = sum(len(each["visits"]) for each in agents.values())
    rate = len(during) / (end - begin)
    yield f"leases granted            {len(granted)}, {visits} of them used; {rate:.1f} per second"
    yield f"calls of others refused   {sum(each['refused'] for each in clients)}"
    dropped = sum(take["dropped"] for each in clients for take in each["takes"])
    yield f"dropped without a word    {dropped}, and those of the clients that were killed"
    found = handovers(agents, clients, watch)
    spans = [each["called"] - each["released"] for each in found]
    yield f"release to next call      {quantiles(spans)} of {len(found)}"
    for one, other in pairwise(HOPS):
        spans = [each[other] - each[one] for each in found if one in each and other in each]
        yield f"  {one:9} to {other:9}  {quantiles(spans)}"
    worst = sorted(found, key=lambda each: each["called"] - each["released"])[-3:]
    for each in worst:
        at = ", ".join(f"{hop} {each[hop] - each['released']:.3f}" for hop in HOPS[1:] if hop in each)
        yield f"  slow: released at {each['released'] - begin:.1f} s, then {at}"
    for one, other in pairwise([begin, *during]):
        if other - one > STALL_S:
            yield f"stall: no grant for {other - one:.1f} s from {one - begin:.1f} s on"
