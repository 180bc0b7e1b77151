"""What a dashboard is made of: values; pure."""

from msgspec import Struct

LEGEND = "{{instance}} {{index}} {{model}} {{partition}}"


class Query(Struct, frozen=True):
    """One query of a panel."""

    expr: str
    legend: str = LEGEND


class Panel(Struct, frozen=True, kw_only=True):
    """One panel; `metric` is the metric of the catalogue that it is about, empty for others."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    metric: str = ""
    kind: str = "timeseries"
