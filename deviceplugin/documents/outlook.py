"""Sections about trends, markets and investments, which no software can act on; pure."""

from typing import ClassVar

from deviceplugin.documents.told import Telling, Told, Words, reported

_OUTLOOK = reported("it is a description, no software can act on it")


class TechnologyTrends(Told, frozen=True):
    """The section `technology_trends`."""

    OTHERS: ClassVar[Telling] = _OUTLOOK

    hardware: Words = ()
    software: Words = ()
    applications: Words = ()


class MarketOutlook(Told, frozen=True):
    """The section `market_outlook`."""

    OTHERS: ClassVar[Telling] = _OUTLOOK

    size: str | None = None
    growth_rate: str | None = None
    drivers: Words = ()
    segments: Words = ()


class InvestmentStrategy(Told, frozen=True):
    """The section `investment_strategy`."""

    OTHERS: ClassVar[Telling] = _OUTLOOK

    focus_areas: Words = ()
    recommendations: Words = ()
    risks: Words = ()
