"""What dashboards get beside logged numbers: pictures, errors by species, tables, the model."""

from nequip_like.report.boards.dashboard import Dashboard

__all__ = ["Dashboard"]
