"""The definitions as the `feast` command finds them: one name a Feast object in this module.

This file is an entry point (Feast imports it), so it reads the settings.
"""

from reference_system.features.feast.objects import feast_objects
from reference_system.paths import StatePaths
from reference_system.settings import load_settings

_objects = feast_objects(StatePaths(load_settings().state_dir))
globals().update({entity.name: entity for entity in _objects.entities})
globals().update({view.name: view for view in _objects.views})
globals().update({service.name: service for service in _objects.services})
