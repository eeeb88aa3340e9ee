"""Tables, plots and files about a trained potential. Plotting is imported where it is needed."""

from nequip_like.report.files import write_metrics, write_predictions
from nequip_like.report.tables import evaluation_table, print_evaluations, worst_lines

__all__ = ["evaluation_table", "print_evaluations", "worst_lines", "write_metrics", "write_predictions"]
