"""Reads a page of metrics with the strict parser of Prometheus' own client, and the files that name metrics.

Arguments: files with the page, the dashboard, and the alert rules. Prints JSON: `metrics`, by the name that an
expression begins with, each with type, labels and samples; and `expressions`, each with what it selects: the
metrics that it names, with the labels that it looks at and what it wants of them.
"""

import json
import re
import sys

import promql_parser
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def metrics(page):
    """The metrics of a page by name."""
    found = {}
    for family in text_string_to_metric_families(page):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
        assert name not in found, name
        found[name] = {"type": family.type, "labels": labels, "samples": samples}
    return found


def selections(text):
    """What an expression selects, and the labels that it groups and joins by."""
    # Grafana puts its variables in before Prometheus sees the expression.
    text = re.sub(r"\$__rate_interval\b", "5m", text)
    text = re.sub(r"\$(job|instance)\b", ".+", text)
    selected, labels = [], set()

    def visit(node):
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            wanted = [[one.name, str(one.op).split(".")[-1], one.value] for one in node.matchers.matchers]
            if [node.name, wanted] not in selected:
                selected.append([node.name, wanted])
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier:
            labels.update(modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and modifier and modifier.matching:
            labels.update(modifier.matching.labels)

    promql_parser.walk(promql_parser.parse(text), visit)
    assert selected, text
    return {"text": text, "selects": selected, "labels": sorted(labels)}


def panels(dashboard):
    """The panels of a dashboard; each must be well formed and have a place of its own."""
    taken, ids = set(), set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
        assert panel["id"] not in ids and panel["title"], panel
        ids.add(panel["id"])
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert panel["targets"], panel["title"]
            yield panel


def main(page_path, dashboard_path, rules_path):
    with open(dashboard_path, encoding="utf-8") as file:
        dashboard = json.load(file)
    # What an import asks nobody about.
    assert dashboard["id"] is None and dashboard["__inputs"] == [], "it is of one Grafana"
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    queries = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    with open(rules_path, encoding="utf-8") as file:
        groups = yaml.safe_load(file)["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules), "a name is used twice"
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
    expressions = [selections(text) for text in queries + [rule["expr"] for rule in rules]]
    with open(page_path, encoding="utf-8") as file:
        json.dump({"metrics": metrics(file.read()), "expressions": expressions}, sys.stdout)


main(*sys.argv[1:])
