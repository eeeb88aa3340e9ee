"""Tables, plots and files about a trained potential. Plotting is imported where it is needed."""

from nequip_like.report.files import write_metrics, write_predictions
from nequip_like.report.tables import evaluation_table, worst_table

__all__ = ["evaluation_table", "worst_table", "write_metrics", "write_predictions"]
