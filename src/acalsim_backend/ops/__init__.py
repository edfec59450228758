"""Operators: one class (or one row of a family's table) holds all that is known of each.

Importing the package registers every operator; each family is one module, found by listing this folder.
"""

from __future__ import annotations

import importlib
import pkgutil

from acalsim_backend.ops.base import Operator, broken_rule, check_shapes, operator_for, operator_of

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["Operator", "broken_rule", "check_shapes", "operator_for", "operator_of"]
