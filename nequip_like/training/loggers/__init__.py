"""Loggers of dashboards that go on with their run where training goes on."""
