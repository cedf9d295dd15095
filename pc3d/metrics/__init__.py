"""How good a result is: instance AP (ScanNet, class-agnostic), S3DIS's instance metrics, semantic IoU."""

from pc3d.metrics.class_agnostic import PROTOCOLS, AgnosticProtocol, ClassAgnosticAP, ClassAgnosticResult
from pc3d.metrics.folds import merge_folds
from pc3d.metrics.instance_ap import InstanceAP, InstanceAPResult
from pc3d.metrics.s3dis import (
    S3DIS_CLASS_ORDERS,
    S3DIS_CLASSES_MASK3D,
    S3DIS_CLASSES_SOFTGROUP,
    S3DISInstanceResult,
    S3DISInstances,
)
from pc3d.metrics.s3dis_benchmark import INSTANCE_PROTOCOLS, S3DISBenchmark, S3DISBenchmarkResult
from pc3d.metrics.semantic import SemanticIoU, SemanticResult

__all__ = ["INSTANCE_PROTOCOLS", "PROTOCOLS", "S3DIS_CLASSES_MASK3D", "S3DIS_CLASSES_SOFTGROUP", "S3DIS_CLASS_ORDERS",
           "AgnosticProtocol", "ClassAgnosticAP", "ClassAgnosticResult", "InstanceAP", "InstanceAPResult", "S3DISBenchmark",
           "S3DISBenchmarkResult", "S3DISInstanceResult", "S3DISInstances", "SemanticIoU", "SemanticResult", "merge_folds"]
