"""What a model is asked beyond its errors."""

from nequip_like.workflow.checks.run import check_potential as check_potential
