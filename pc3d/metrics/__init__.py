"""How good a result is: instance AP in the ScanNet protocol."""

from pc3d.metrics.instance_ap import InstanceAP, InstanceAPResult

__all__ = ["InstanceAP", "InstanceAPResult"]
