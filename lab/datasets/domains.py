"""Which data sets are of one domain, so that whole domains can be left out.

A set that no domain names is a domain of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.record_files import RecordFile

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "facts": (
        *("squad2", "xquad_en", "qed_nq", "nq_oracle", "clapnq", "selqa", "quotesum"),
        *("afriqa_questions", "nq_wiki", "dbpedia"),
    ),
    "hops": (
        *("hotpotqa", "hotpotqa_more", "2wikimultihopqa", "2wikimultihopqa_more", "morehopqa"),
        *("strategyqa", "hover"),
    ),
    "claims": ("fever", "fm2"),
    "science": ("scifact_evidence", "scifact", "evidence_inference", "covid_qa"),
    "web": ("trec_dl21",),
    "health": ("mediqa", "medquad"),
    "advice": ("feedbackqa",),
    "law": ("stard",),
    "finance": ("tatqa", "fetaqa", "aitqa"),
    "meetings": ("qmsum",),
    "languages": (
        *("drcd", "xquad_es", "xquad_de", "xquad_zh", "heq_he", "norquad_no", "arcd_ar"),
        *("piaf_fr", "squad_it", "squad_pt", "iapp_th", "reading"),
    ),
}
"""Encyclopaedia by single facts and by several hops, claims, science and medicine, pages of the
web, questions of patients, advice of authorities, statutes, reports and tables, meetings, and
languages other than English; sets of evidence and of rankings."""
MANUALS = "manuals"
"""The domain of records that `tamis lab probe headings` made."""


def domain_of_name(name: str) -> str | None:
    """The domain that names a set; None for a set of none."""
    return next((domain for domain, names in DOMAINS.items() if name in names), None)


def domain_of(file: RecordFile) -> str:
    """The domain of a file, by its name without `.jsonl` and the like, or by what its gold is.

    Records may name one of their own, as `domain`.
    """
    name = file.path.name.split(".")[0]
    if domain := domain_of_name(name):
        return domain
    try:
        _, first = next(read_json_lines(file.path), (0, {}))
    except BadInput:
        first = {}
    return MANUALS if first.get("gold_source") == "heading" else name


def find_domain_files(folders: list[Path]) -> dict[str, list[Path]]:
    """The record files under some folders, by domain; files of documents alone are left out.

    Raises:
        BadInput: there is no labelled file.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl*")):
            if not path.name.split(".")[0].endswith("_docs"):
                found.setdefault(domain_of(RecordFile(path)), []).append(path)
    if not found:
        names = ", ".join(str(folder) for folder in folders)
        raise BadInput(
            f"{names} holds no labelled records; give a folder with *.jsonl or *.jsonl.gz"
        )
    return found
