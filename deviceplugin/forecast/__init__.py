"""Forecasts of hourly series, with bands that past errors of the same series justify; pure."""
