"""The table of peers.md: each strategy of the zoo, and whether other projects name it in their own lists."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from kdzoo.registry import Registry

PROJECTS = ("RepDistiller", "mdistiller", "torchdistill", "timm")
LISTS: dict[str, frozenset[str]] = {
    # The methods of its README with CRD, whose code it is, and of its folder distiller_zoo.
    "RepDistiller": frozenset(
        [
            "soft",
            "fitnets",
            "at",
            "sp",
            "cc",
            "vid",
            "rkd",
            "pkt",
            "ab",
            "ft",
            "fsp",
            "nst",
            "crd",
        ]
    ),
    # The table of its README, and DOT.
    "mdistiller": frozenset(
        [
            "soft",
            "fitnets",
            "at",
            "nst",
            "pkt",
            "ofd",
            "rkd",
            "vid",
            "sp",
            "crd",
            "reviewkd",
            "dkd",
            "dot",
        ]
    ),
    # Its sample configurations for ILSVRC 2012.
    "torchdistill": frozenset(
        [
            "soft",
            "fitnets",
            "at",
            "cc",
            "crd",
            "ab",
            "dist",
            "fsp",
            "ft",
            "ickd",
            "ls",
            "reviewkd",
            "pkt",
            "rkd",
            "sp",
            "srd",
            "sskd",
            "tfkd",
            "vid",
        ]
    ),
    # timm.task: logit, feature and token distillation.
    "timm": frozenset(
        [
            "soft",
            "fitnets",
            "deit",
            "hard",
        ]
    ),
}
"""The names are kdzoo's."""

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "KDSVD": ("RepDistiller", "mdistiller"),
    "CSE + L2": ("torchdistill",),
    "DIST+": ("torchdistill",),
    "HND": ("torchdistill",),
    "GHND": ("torchdistill",),
    "PAD": ("torchdistill",),
    "SKD": ("torchdistill",),
}
"""What they have and kdzoo has not, by their names."""


def peers_table() -> str:
    """The table, family by family, and what kdzoo lacks at its end."""
    built_in = [entry.declared for entry in Registry.load().strategies if entry.plugin.distribution == "kdzoo"]
    ours = sorted((kind for kind in built_in if kind.name != "ce"), key=lambda kind: (kind.family, kind.name))
    rows = [
        [kind.family, f"`{kind.name}`", "yes", *("yes" if kind.name in LISTS[one] else "-" for one in PROJECTS)]
        for kind in ours
    ]
    rows += [
        ["", method, "-", *("yes" if one in names else "-" for one in PROJECTS)] for method, names in ELSEWHERE.items()
    ]
    return (
        tabulate(rows, headers=["family", "method", "kdzoo", *PROJECTS], tablefmt="pipe", disable_numparse=True) + "\n"
    )


def peers_counts() -> str:
    """Methods of each family in each project."""
    built_in = [entry.declared for entry in Registry.load().strategies if entry.plugin.distribution == "kdzoo"]
    families = {kind.name: kind.family for kind in built_in if kind.name != "ce"}
    found = {"kdzoo": Counter(families.values())}
    found |= {one: Counter(families[name] for name in LISTS[one] if name in families) for one in PROJECTS}
    rows = [[family, *(found[one][family] for one in found)] for family in sorted(set(families.values()))]
    more = [sum(one in names for names in ELSEWHERE.values()) for one in PROJECTS]
    rows.append(["not in kdzoo", 0, *more])
    totals = [sum(found[one].values()) for one in found]
    rows.append(["all", totals[0], *(total + extra for total, extra in zip(totals[1:], more, strict=True))])
    return tabulate(rows, headers=["family", *found], tablefmt="pipe") + "\n"
